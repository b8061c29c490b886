#!/usr/bin/env bash
# From the bytes of KV-event batches to the index, beside a decoder of the field. See bench/README.md.
# builds: events_bench
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
peer=msgspec==0.22.0
# For this bench only: nothing else needs it.
[ "$(cat .deps/bench-events/.version 2>/dev/null)" = "$peer" ] ||
  { .deps/venv/bin/pip install --disable-pip-version-check -q --no-deps --upgrade --target .deps/bench-events "$peer" && echo "$peer" >.deps/bench-events/.version; } ||
  { echo "bench: $peer could not be installed: no peer in this run" >&2; }
PYTHONPATH=.deps/bench-events exec .deps/venv/bin/python bench/events.py "$@"
