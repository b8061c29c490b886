#!/usr/bin/env bash
# lint.sh          layering and file sizes (with the linter's own test), formatting of C++ and Rust
# lint.sh --fix    formats instead of complaining
# lint.sh --tidy   also clang-tidy on the C++ files changed since WARMPATH_LINT_BASE (default: where this branch left origin/main,
#                  or, on it, the last ten commits); stops after WARMPATH_TIDY_SECONDS (default: no limit) and names what it left out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh
. scripts/build.sh
preset=release
CARGO=${CARGO:-cargo}

mapfile -t cpp < <(git ls-files -co --exclude-standard 'src/*.h' 'src/*.cc' 'fuzz/*.cc' 'bench/*.cc' | while read -r f; do [ -f "$f" ] && echo "$f"; done)

have_rustfmt() { [ -f rust/Cargo.toml ] && (cd rust && "$CARGO" fmt --version) >/dev/null 2>&1; }

fix() {
  printf '%s\0' "${cpp[@]}" | xargs -0 clang-format-19 -i
  if have_rustfmt; then (cd rust && "$CARGO" fmt); else echo "dev: no rustfmt beside $CARGO; Rust sources left as they are" >&2; fi
}

check_format() {
  local bad
  bad=$(printf '%s\0' "${cpp[@]}" | xargs -0 clang-format-19 --dry-run 2>&1 | sed -n 's/^\([^ :]*\):[0-9:]* warning.*/\1/p' | sort -u)
  if [ -n "$bad" ]; then printf '%s: not formatted (./dev fmt)\n' $bad; return 1; fi
  echo "format: ${#cpp[@]} C++ files"
  if have_rustfmt; then (cd rust && "$CARGO" fmt --check >/dev/null) || { echo "rust/: not formatted (./dev fmt)"; return 1; }; fi
}

base_commit() {
  local base
  if [ -n "${WARMPATH_LINT_BASE:-}" ]; then git rev-parse --verify --quiet "$WARMPATH_LINT_BASE^{commit}" && return; fi
  base=$(git merge-base HEAD origin/main 2>/dev/null || true)
  if [ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ]; then echo "$base"; return; fi
  git rev-parse --verify --quiet HEAD~10 || git rev-list --max-parents=0 HEAD | tail -n 1
}

# The changed .cc files, and for a changed header the .cc beside it; only what the tree of $preset compiles.
changed_sources() {
  { git diff --name-only --diff-filter=d "$(base_commit)" -- 'src/*.cc' 'src/*.h'
    git ls-files -o --exclude-standard 'src/*.cc' 'src/*.h'; } |
    sed 's/\.h$/.cc/' | sort -u | while read -r f; do [ -f "$f" ] && grep -qF "/$f\"" "$(build_dir)/compile_commands.json" && echo "$f"; done
}

tidy() {
  local files deadline status=0 left
  configure
  mapfile -t files < <(changed_sources)
  [ "${#files[@]}" -gt 0 ] || { echo "clang-tidy: no changed C++ files"; return 0; }
  deadline=$(( SECONDS + ${WARMPATH_TIDY_SECONDS:-1000000} ))
  left=$(mktemp)
  export TIDY_DEADLINE=$(( $(date +%s) + deadline - SECONDS )) TIDY_LEFT=$left TIDY_BUILD; TIDY_BUILD=$(build_dir)
  printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$jobs" scripts/tidy_one.sh || status=1
  if [ -s "$left" ]; then echo "clang-tidy: time is up; not checked: $(sort "$left" | tr '\n' ' ')"; fi
  echo "clang-tidy: $(( ${#files[@]} - $(wc -l <"$left") )) of ${#files[@]} changed files in $SECONDS s"
  rm -f "$left"
  return $status
}

case "${1:-}" in
  '') ;;
  --fix) fix; exit ;;
  --tidy) ;;
  *) die "lint takes --tidy or --fix, not '$1'" ;;
esac
status=0
python3 scripts/lint_layers.py --self-test || status=1
python3 scripts/lint_layers.py || status=1
check_format || status=1
if [ "${1:-}" = --tidy ]; then tidy || status=1; fi
exit $status
