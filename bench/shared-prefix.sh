#!/usr/bin/env bash
# The judged routing rows: precise against round robin, same requests at the same moments. See bench/README.md.
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/shared_prefix.py" "$@"
