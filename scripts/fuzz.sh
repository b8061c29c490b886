# Sourced by ./dev: run_fuzz [NAME [SECONDS]] runs one libFuzzer target on its committed corpus. What it learns stays in
# build/fuzz/corpus/NAME and what breaks it in build/fuzz/found/; a case worth keeping is copied to fuzz/corpus/NAME by hand.

fuzz_targets() { sed -n 's/^[[:space:]]*warmpath_fuzz(\([a-z0-9_]*\).*/\1/p' fuzz/CMakeLists.txt; }

run_fuzz() {
  local name=${1:-} seconds=${2:-60} learned found
  if [ -z "$name" ]; then fuzz_targets; return 0; fi
  fuzz_targets | grep -qx -- "$name" || die "no fuzz target '$name'; there are: $(fuzz_targets | tr '\n' ' ')"
  case "$seconds" in ''|*[!0-9]*) die "SECONDS must be a whole number, not '$seconds'" ;; esac
  preset=fuzz
  build "${name}_fuzz"
  learned=build/fuzz/corpus/$name found=build/fuzz/found
  mkdir -p "$learned" "$found"
  say "fuzz $name for $seconds s"
  UBSAN_OPTIONS=print_stacktrace=1 "build/fuzz/bin/${name}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 \
    -print_final_stats=1 -artifact_prefix="$found/$name-" "$learned" "fuzz/corpus/$name"
}
