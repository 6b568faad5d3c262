# Kueue: a controller that admits KubeJobs by quota. It runs beside the control plane, as the cluster's administrator.
# Its folder in the state folder says that the cluster has it.
#
#   kueue/config.yaml   its configuration
#   kueue/objects       what it needs in the cluster: its module's own kustomization, with little laid over it
#   kueue/certificate   what its webhooks serve with

kueue_version=v0.17.1

install_kueue() {
  build_in_programs "kueue-$kueue_version" env CGO_ENABLED=0 GOBIN="$programs/kueue-$kueue_version.partial" \
    go install -p 2 -trimpath -ldflags='-s -w' "sigs.k8s.io/kueue/cmd/kueue@$kueue_version"
}

# Makes Kueue a part of the cluster.
enable_kueue() {
  mkdir -p "$state/kueue"/{objects,certificate}
  load_settings
}

# The service of its webhooks has this address of the services' range, and nobody but Kueue itself listens there: so the API
# server finds it without kube-proxy, and what Kueue's module says of its service holds as it is.
kueue_address() { echo "$prefix.2"; }

# Makes what Kueue needs in the cluster.
make_kueue_objects() {
  local objects=$state/kueue/objects module
  module=$(go mod download -json "sigs.k8s.io/kueue@$kueue_version" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
  [[ -d $module/config/components ]] || die "the Go module of Kueue $kueue_version is missing"
  fill_in kueue/kustomization.yaml | sed "s|@COMPONENTS@|$(realpath --relative-to "$objects" "$module/config/components")|" \
    >"$objects/kustomization.yaml"
  local kind
  for kind in Mutating Validating; do
    without_webhooks "$kind" "$module/config/components/webhook/manifests.yaml" >"$objects/${kind,}.yaml"
  done
  kubectl get namespace kueue-system >/dev/null 2>&1 || kubectl create namespace kueue-system >/dev/null
  kubectl kustomize "$objects" | kubectl apply --server-side --force-conflicts -f - >/dev/null
}

# Prints a patch that removes a configuration's webhooks for what is no KubeJob and not Kueue's own: with those for pods, no
# pod could be made while Kueue is stopped.
# Usage: without_webhooks KIND MANIFESTS
without_webhooks() {
  printf '%s\n' "apiVersion: admissionregistration.k8s.io/v1" "kind: $1WebhookConfiguration" \
    "metadata: {name: ${1,}-webhook-configuration}" "webhooks:"
  local name=${1,}
  sed -nE -e "/^  name: .(job|clusterqueue|cohort|resourceflavor|workload)\.kb\.io$/d" \
    -e "s/^  name: (${name:0:1}[a-z]*\.kb\.io)$/- {name: \1, \$patch: delete}/p" "$2"
}

start_kueue() {
  make_kueue_objects
  ip -4 address show dev "$cluster_name" | grep -q "inet $(kueue_address)/" ||
    ip address add "$(kueue_address)/32" dev "$cluster_name"
  fill_in kueue/config.yaml >"$state/kueue/config.yaml"
  spawn kueue "$programs/kueue-$kueue_version" --kubeconfig "$state/kubeconfig" --config "$state/kueue/config.yaml"
}

wait_for_kueue() {
  wait_until kueue take_kueue_certificate
  wait_until kueue kueue_answers
}

# Puts the certificate that Kueue made, which is in a secret, where a kubelet would mount it.
take_kueue_certificate() {
  local folder=$state/kueue/certificate file
  for file in tls.key tls.crt; do
    kubectl -n kueue-system get secret kueue-webhook-server-cert -o "jsonpath={.data.${file/./\\.}}" |
      base64 -d >"$folder/$file.partial"
    [[ -s $folder/$file.partial ]] || return 1
    mv "$folder/$file.partial" "$folder/$file"
  done
}

# Whether the API server reaches its webhooks: one for objects, and the one that converts them.
kueue_answers() {
  kubectl create --dry-run=server -f - <<YAML && kubectl get --raw /apis/kueue.x-k8s.io/v1beta1/clusterqueues
{apiVersion: kueue.x-k8s.io/v1beta2, kind: ResourceFlavor, metadata: {name: does-it-answer}}
YAML
}
