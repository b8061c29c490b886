#!/bin/sh
# helmfile apply reads exit code 2 as: there are changes.
[ "${1:-}" = version ] && { echo 3.10.0; exit 0; }
exit 2
