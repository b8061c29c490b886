#!/usr/bin/env bash
# A router that follows a large pool through a Kubernetes API. See bench/README.md.
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")/..
exec "$root/.deps/venv/bin/python" "$root/bench/fleet.py" "$@"
