#!/usr/bin/env bash
# The block index against those of other routers, in one interleaved run. See bench/README.md.
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/index.py" "$@"
