# Sourced by ./dev: configure and build the tree of one preset ($preset: release in build/, the others in build/PRESET/).

jobs=${WARMPATH_JOBS:-$(nproc)}
export NINJA_STATUS='[%f/%t %es] '

build_dir() { if [ "$preset" = release ]; then echo build; else echo "build/$preset"; fi; }

# Configures once, and again when the presets change (ninja itself notices every other change).
configure() {
  local dir log; dir=$(build_dir)
  if [ -f "$dir/build.ninja" ] && cmp -s CMakePresets.json "$dir/.presets"; then return 0; fi
  say "configure: $preset"
  mkdir -p "$dir"
  log=$dir/configure.log
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; die "configuring $preset failed; rm -rf $dir starts afresh"; }
  cp CMakePresets.json "$dir/.presets"
}

# build [TARGET...]
build() {
  configure
  cmake --build "$(build_dir)" -j "$jobs" --target "${@:-all}"
}
