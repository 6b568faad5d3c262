# The control plane: etcd, the API server, the controllers, the scheduler.

kubectl() { "$programs/kubectl" --request-timeout=20s "$@"; }

# Load tests make thousands of pods, for which the default rates (20 and 50 requests per second) take minutes.
fast_client=(--kube-api-qps 300 --kube-api-burst 600)

start_etcd() {
  # Losing the last seconds in a power cut is fine; waiting for the disk at every write is not.
  spawn etcd "$programs/etcd" --unsafe-no-fsync --data-dir "$state/etcd" --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$etcd_peer_port"
}

wait_for_etcd() { wait_until etcd listens 127.0.0.1 "$etcd_port"; }

start_apiserver() {
  local pki=$state/pki
  [[ $apiserver_port == 443 ]] || say "port 443 is taken: programs in pods do not find the API server by themselves"
  spawn apiserver "$programs/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd_port" \
    --bind-address "$host" --advertise-address "$host" --secure-port "$apiserver_port" \
    --service-cluster-ip-range "$prefix.0/26" --endpoint-reconciler-type none \
    --cert-dir "$pki" --client-ca-file "$pki/ca.crt" \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --service-account-issuer "https://$host:$apiserver_port" \
    --service-account-key-file "$pki/service-accounts.pub" \
    --service-account-signing-key-file "$pki/service-accounts.key" \
    --kubelet-client-certificate "$pki/kubelet-client.crt" --kubelet-client-key "$pki/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP
}

wait_for_apiserver() { wait_until apiserver kubectl get --raw /readyz; }

start_controller_manager() {
  local pki=$state/pki
  spawn controller-manager "$programs/kube-controller-manager" --kubeconfig "$pki/controller-manager.kubeconfig" \
    --secure-port 0 --leader-elect=false --use-service-account-credentials "${fast_client[@]}" \
    --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/service-accounts.key"
}

wait_for_controller_manager() { wait_until controller-manager kubectl get serviceaccount default; }

start_scheduler() {
  spawn scheduler "$programs/kube-scheduler" --kubeconfig "$state/pki/scheduler.kubeconfig" \
    --secure-port 0 --leader-elect=false "${fast_client[@]}"
}

wait_for_scheduler() { wait_until scheduler runs scheduler; }
