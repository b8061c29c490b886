# Sourced by ./dev: run_tests [NAME] builds the preset and runs its unit tests and fuzz corpora (ctest), then the whole-program
# tests (pytest in tests/). NAME keeps the tests whose name contains it; both runners close with a line that counts.

run_tests() {
  local name=${1:-} dir status=0 unit program
  local named=(${name:+-R "$name"})
  dir=$(build_dir)
  build
  unit=$(ctest --test-dir "$dir" -N "${named[@]}" | awk '/^Total Tests:/ { print $3 }')
  [ -n "$unit" ] || die "ctest --test-dir $dir -N does not say how many tests there are"
  if [ "$unit" != 0 ]; then
    say "unit tests and fuzz corpora ($unit programs)"
    ctest --test-dir "$dir" "${named[@]}" -j "$jobs" --output-on-failure || status=1
  elif [ -z "$name" ]; then
    die "no unit test was built"
  fi
  say "whole-program tests"
  program=0
  WARMPATH_BIN=$PWD/$dir/bin/warmpath "$DEPS/venv/bin/python" -m pytest tests ${name:+-k "$name"} || program=$?
  case $program in
    0) ;;
    5) [ "$unit" != 0 ] || die "no test's name contains '$name'; ctest --test-dir $dir -N lists the unit tests" ;;
    *) status=1 ;;
  esac
  return $status
}
