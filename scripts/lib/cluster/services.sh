# What a cluster is used with: a registry, an S3 server, nodes that only pretend.

# Nothing but tests' data is behind these.
s3_key=thresher
s3_secret=thresher-test-secret

start_registry() {
  local program
  program=$(find_program docker-registry)
  mkdir -p "$state/registry"
  fill_in registry.yaml >"$state/registry.yaml"
  spawn registry "$program" serve "$state/registry.yaml"
}

wait_for_registry() { wait_until registry listens "$host" "$registry_port"; }

start_s3() {
  # A folder is a bucket.
  mkdir -p "$state/s3/thresher"
  export_s3_server THRESHER_TEST_VERSITYGW "versitygw-$versitygw_version" versitygw
  spawn s3 env ROOT_ACCESS_KEY="$s3_key" ROOT_SECRET_KEY="$s3_secret" \
    "$THRESHER_TEST_VERSITYGW" --port "$host:$s3_port" posix "$state/s3"
}

wait_for_s3() { wait_until s3 listens "$host" "$s3_port"; }

start_kwok() {
  spawn kwok "$programs/kwok-$kwok_version" --kubeconfig "$state/kubeconfig" \
    --config "$PWD/scripts/lib/cluster/kwok.yaml" --node-lease-duration-seconds 40 \
    --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake
}

# Makes those of the nodes fake-1 to fake-N that are missing.
add_fake_nodes() {
  runs kwok || start_kwok
  local number
  number=$(kubectl get nodes --selector type=kwok --output name | wc -l)
  if [[ $number -lt $1 ]]; then
    say "adding nodes that only pretend"
    for ((number++; number <= $1; number++)); do
      sed "s/@NUMBER@/$number/" scripts/lib/cluster/fake_node.yaml
    done | kubectl create -f - >/dev/null
  fi
  wait_until kwok kubectl wait --for=condition=Ready node --selector type=kwok --timeout=15s
}
