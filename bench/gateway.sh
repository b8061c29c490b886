#!/usr/bin/env bash
# Our gateway beside nginx: CPU per request and per event, memory per connection. See bench/README.md.
# builds: proxy_load
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian's nginx is unpacked and not installed: its package would start a server.
fetch_nginx() {
  local tmp; tmp=$(mktemp -d)
  chmod 755 "$tmp"
  (cd "$tmp" && { apt-get download nginx || { apt-get update && apt-get download nginx; }; } && dpkg -x ./nginx_*.deb out) >.deps/nginx.log 2>&1 &&
    mkdir -p .deps/bin && install -m 755 "$tmp/out/usr/sbin/nginx" .deps/bin/nginx ||
    { rm -rf "$tmp"; tail -n 3 .deps/nginx.log >&2; echo "bench: no nginx on PATH, and Debian's could not be fetched; as root: apt-get install nginx-light" >&2; exit 1; }
  rm -rf "$tmp"
}
[ -x .deps/bin/nginx ] || [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || fetch_nginx
exec .deps/venv/bin/python bench/gateway.py "$@"
