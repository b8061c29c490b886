# Sourced by ./dev: run_bench [NAME [ARGS]] runs bench/NAME.sh or, without one, the google-benchmark program NAME_bench.
# A script's line `# builds: TARGET...` names what it needs beside warmpath.

bench_names() {
  local f
  { for f in bench/*.sh; do [ -x "$f" ] && basename "$f" .sh; done
    find bench src -name '*_bench.cc' -printf '%f\n' | sed 's/_bench\.cc$//'; } | sort -u
}

run_bench() {
  local name=${1:-}
  if [ -z "$name" ]; then bench_names; return 0; fi
  shift
  bench_names | grep -qx -- "$name" || die "no benchmark '$name'; there are: $(bench_names | tr '\n' ' ')"
  if [ -x "bench/$name.sh" ]; then
    # shellcheck disable=SC2046
    build warmpath $(sed -n 's/^# builds: //p' "bench/$name.sh")
    exec "bench/$name.sh" "$@"
  fi
  build "${name}_bench"
  exec "build/bin/${name}_bench" "$@"
}
