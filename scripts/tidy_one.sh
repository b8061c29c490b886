#!/usr/bin/env bash
# clang-tidy on one file, quiet when it is clean. After TIDY_DEADLINE (seconds since the epoch) only names the file in TIDY_LEFT.
if [ "$(date +%s)" -ge "$TIDY_DEADLINE" ]; then echo "$1" >>"$TIDY_LEFT"; exit 0; fi
out=$(clang-tidy-19 -p "$TIDY_BUILD" --quiet "$1" 2>/dev/null) && [ -z "$out" ] && exit 0
printf '%s\n' "$out"
# Findings outside WarningsAsErrors inform; the exit code follows clang-tidy's.
printf '%s' "$out" | grep -q 'error:' && exit 1
exit 0
