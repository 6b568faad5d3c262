# The node: a bridge, containerd, a kubelet.

containerd_socket() { echo "$state/containerd/containerd.sock"; }

ctr() { "$(find_program ctr)" --address "$(containerd_socket)" --namespace k8s.io "$@"; }

# Makes the pods' bridge, whose address is the machine's for them.
make_bridge() {
  ip link show "$cluster_name" >/dev/null 2>&1 || ip link add "$cluster_name" type bridge
  ip -4 address show dev "$cluster_name" | grep -q "inet $host/" || ip address add "$host/24" dev "$cluster_name"
  ip link set "$cluster_name" up
}

start_containerd() {
  local folder=$state/containerd
  mkdir -p "$folder/registries/$host:$registry_port" "$state/network"
  fill_in containerd.toml >"$folder/config.toml"
  fill_in network.json >"$state/network/thresher.conflist"
  fill_in hosts.toml >"$folder/registries/$host:$registry_port/hosts.toml"
  spawn containerd "$(find_program containerd)" --config "$folder/config.toml"
}

wait_for_containerd() {
  wait_until containerd ctr version
  [[ -n $(ctr images list --quiet name==docker.io/thresher/pause:latest) ]] || import_pause
}

# Makes the image of the container that holds a pod's namespaces.
import_pause() {
  local root=$state/pause
  mkdir -p "$root"
  cp "$programs/pause" "$root/pause"
  python3 scripts/lib/image/oci.py archive --root "$root" --entrypoint /pause --tag thresher/pause:latest "$root.tar"
  import_image "$root.tar"
  rm -r "$root" "$root.tar"
}

# Usage: import_image FILE   ("-" is standard input)
import_image() { ctr images import "$1" >/dev/null; }

start_kubelet() {
  mkdir -p "$state/kubelet" "$state/manifests"
  make_cgroup
  fill_in kubelet.yaml >"$state/kubelet.yaml"
  spawn kubelet "$programs/kubelet" --config "$state/kubelet.yaml" --root-dir "$state/kubelet" \
    --cert-dir "$state/pki/kubelet" --kubeconfig "$state/pki/kubelet.kubeconfig" \
    --hostname-override "$cluster_name" --node-ip "$host"
}

wait_for_kubelet() { wait_until kubelet listens "$host" "$kubelet_port"; }

wait_for_node() {
  wait_until kubelet kubectl get node "$cluster_name"
  wait_until kubelet kubectl wait --for=condition=Ready "node/$cluster_name" --timeout=15s
}

# Prints a template of lib/cluster with the settings in it.
fill_in() {
  sed -e "s|@STATE@|$state|g; s|@NAME@|$cluster_name|g; s|@PREFIX@|$prefix|g; s|@HOST@|$host|g" \
    -e "s|@KUBELET_PORT@|$kubelet_port|g; s|@REGISTRY_PORT@|$registry_port|g; s|@CNI@|$(cni_folder)|g" \
    "scripts/lib/cluster/$1"
}

# Prints where control groups are mounted: one folder, or one for each controller.
cgroup_mounts() {
  awk '{ for (i = 7; i < NF; i++) if ($i == "-" && $(i + 1) ~ /^cgroup2?$/) print $5 }' /proc/self/mountinfo
}

# Makes the control group below which all pods are: the kubelet wants it to be there.
make_cgroup() {
  local mount
  while read -r mount; do
    mkdir -p "$mount/$cluster_name"
  done < <(cgroup_mounts)
}
