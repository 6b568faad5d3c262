# The programs of a cluster: found, installed by apt, or built from Go modules into a folder outside of the checkout.
# Source after common.sh and s3_servers.sh.

kubernetes_version=$(sed -n 's/^\t*\(require \)\{0,1\}k8s.io\/kubernetes \(v[0-9.]*\).*/\2/p' scripts/lib/cluster/go.mod)
kwok_version=v0.8.0

# A version's programs. Only a program that is whole has its name there, so that a build that was cut goes on.
programs=$tools/kubernetes-$kubernetes_version

install_packages() {
  local missing=()
  find_program containerd >/dev/null || missing+=(containerd)
  find_program runc >/dev/null || missing+=(runc)
  find_program docker-registry >/dev/null || missing+=(docker-registry)
  find_program ip >/dev/null || missing+=(iproute2)
  find_program openssl >/dev/null || missing+=(openssl)
  find_program python3 >/dev/null || missing+=(python3)
  find_program mount >/dev/null || missing+=(mount)
  cni_folder >/dev/null || missing+=(containernetworking-plugins)
  [[ ${#missing[@]} == 0 ]] || apt_install "${missing[@]}"
}

# Prints where a program is, also where only root's PATH has it.
find_program() { PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin type -P "$1"; }

# Prints the folder of the plugins that connect pods to the network.
cni_folder() {
  local folder
  for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    if [[ -x $folder/bridge && -x $folder/host-local && -x $folder/loopback ]]; then
      echo "$folder"
      return
    fi
  done
  return 1
}

# One after the other: the largest needs 2 GB of memory.
install_programs() {
  local command
  for command in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
    build_program "$command" "k8s.io/kubernetes/cmd/$command"
  done
  build_program etcd go.etcd.io/etcd/server/v3
  build_program pause ./pause
  mkdir -p "$s3_servers"
  s3_server "versitygw-$versitygw_version" build_versitygw
  [[ -e $s3_servers/versitygw-$versitygw_version/.complete ]] || die "versitygw is missing"
}

install_kwok() {
  build_in_programs "kwok-$kwok_version" env CGO_ENABLED=0 GOBIN="$programs/kwok-$kwok_version.partial" \
    go install -p 2 -trimpath -ldflags='-s -w' "sigs.k8s.io/kwok/cmd/kwok@$kwok_version"
}

# Usage: build_program NAME PACKAGE   (of the module in lib/cluster)
build_program() {
  local version=k8s.io/component-base/version numbers
  IFS=. read -ra numbers <<<"${kubernetes_version#v}"
  # Clients refuse to speak to a server of version v0.0.0, which is what Kubernetes' sources say of themselves.
  build_in_programs "$1" env CGO_ENABLED=0 go build -C scripts/lib/cluster -p 2 -trimpath -buildvcs=false \
    -ldflags="-s -w -X $version.gitVersion=$kubernetes_version -X $version.gitMajor=${numbers[0]} -X $version.gitMinor=${numbers[1]}" \
    -o "$programs/$1.partial/" "$2"
}

# Runs a command that puts one program into the folder NAME.partial, unless NAME is there.
# Usage: build_in_programs NAME command…
build_in_programs() {
  local name=$1 log
  shift
  [[ -x $programs/$name ]] && return
  command -v go >/dev/null || die "Go is missing (1.24 or newer); https://go.dev/dl has it"
  say "building $name (once; minutes for the largest)"
  mkdir -p "$programs"
  log=$(mktemp)
  if ! nice -n 10 "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "$name could not be built"
  fi
  rm -f "$log"
  mv "$programs/$name.partial"/* "$programs/$name"
  rmdir "$programs/$name.partial"
}

# Prints a kubectl: the one in PATH, or the one that is built here.
kubectl_program() {
  type -P kubectl && return
  build_program kubectl k8s.io/kubernetes/cmd/kubectl
  echo "$programs/kubectl"
}
