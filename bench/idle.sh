#!/usr/bin/env bash
# What the gateway costs while nothing happens. See bench/README.md.
# builds: proxy_load
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")/..
exec "$root/.deps/venv/bin/python" "$root/bench/idle.py" "$@"
