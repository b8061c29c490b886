# Sourced by ./dev: run_check does what CI runs, every stage to its end, and closes with one line per stage and its time.
#   lint        layering, formatting
#   test        release build, unit tests, fuzz corpora, whole-program tests (./dev test)
#   asan        AddressSanitizer and UBSan: all unit tests and fuzz corpora
#   tsan        ThreadSanitizer: the modules that threads share, and what they share of prompt
#   clang-tidy  the files changed since the base commit, within WARMPATH_TIDY_SECONDS (480)
# and then, where its control plane is built already or WARMPATH_KUBERNETES=1, ./dev test kubernetes; the last line says whether it ran.

TSAN_MODULES="base net k8s index events scheduling fleet routing gateway"
check_rows=()
check_failed=0

stage() {
  local name=$1 start=$SECONDS result=ok; shift
  say "check: $name"
  # A subshell of its own: a stage that dies must not end the others. (set -e does not reach into it: stages return early themselves.)
  ( "$@" ) || { result=FAILED; check_failed=$((check_failed + 1)); }
  check_rows+=("$(printf '%-12s %-7s %5d s' "$name" "$result" $((SECONDS - start)))")
  say "check: $name $result after $((SECONDS - start)) s"
}

stage_test() { ./dev test; }

stage_asan() {
  preset=asan
  build unit_tests || return 1
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
  export UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS=print_suppressions=0:suppressions=$PWD/scripts/lsan.supp
  ctest --test-dir build/asan -j "$jobs" --output-on-failure
}

stage_tsan() {
  local module present=() pattern
  preset=tsan
  configure
  for module in $TSAN_MODULES; do
    if grep -q "TESTS" "src/$module/CMakeLists.txt" 2>/dev/null; then present+=("$module"); fi
  done
  build "${present[@]/%/_test}" prompt_test || return 1
  pattern=$(IFS='|'; echo "${present[*]}")
  export TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1:suppressions=$PWD/scripts/tsan.supp
  # Of prompt only what threads share: its other tests would take minutes.
  GTEST_FILTER='*Threads*:PrefixTrie*:KnownTexts*' build/tsan/bin/prompt_test --gtest_brief=1 || return 1
  ctest --test-dir build/tsan -R "^($pattern)\$" -j "$jobs" --output-on-failure
}

stage_tidy() { WARMPATH_TIDY_SECONDS=${WARMPATH_TIDY_SECONDS:-480} scripts/lint.sh --tidy; }

run_check() {
  local only=${WARMPATH_CHECK:-"lint test asan tsan tidy"} name start=$SECONDS
  for name in $only; do
    case "$name" in
      lint) stage lint scripts/lint.sh ;;
      test) stage test stage_test ;;
      asan) stage asan stage_asan ;;
      tsan) stage tsan stage_tsan ;;
      tidy) stage clang-tidy stage_tidy ;;
      *) die "WARMPATH_CHECK names stages out of: lint test asan tsan tidy; not '$name'" ;;
    esac
  done
  say "check: $((SECONDS - start)) s in all"
  printf '%s\n' "${check_rows[@]}"
  printf 'stages: %d passed, %d failed\n' $(( ${#check_rows[@]} - check_failed )) "$check_failed"
  check_kubernetes || check_failed=$((check_failed + 1))
  [ "$check_failed" = 0 ]
}
