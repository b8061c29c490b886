#!/usr/bin/env bash
# CPU and memory of the endpoint picker behind the real Envoy. See bench/README.md.
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")/..
exec "$root/.deps/venv/bin/python" "$root/bench/extproc.py" "$@"
