# The certificates of a cluster, from an authority of its own.

make_certificates() {
  local pki=$state/pki
  if [[ ! -e $pki/ca.crt ]]; then
    openssl_quietly req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj "/CN=$cluster_name" -keyout "$pki/ca.key" -out "$pki/ca.crt"
  fi
  certificate apiserver "/CN=kube-apiserver" "IP:$host,IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
  certificate kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
  certificate kubelet "/O=system:nodes/CN=system:node:$cluster_name"
  certificate controller-manager "/CN=system:kube-controller-manager"
  certificate scheduler "/CN=system:kube-scheduler"
  certificate admin "/O=system:masters/CN=admin"
  if [[ ! -e $pki/service-accounts.pub ]]; then
    openssl_quietly genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$pki/service-accounts.key"
    openssl_quietly pkey -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub"
  fi
  local user
  for user in kubelet controller-manager scheduler; do write_kubeconfig "$user" "$pki/$user.kubeconfig"; done
  write_kubeconfig admin "$state/kubeconfig"
  # Whoever called by sudo may use the cluster.
  [[ -z ${SUDO_UID:-} ]] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$state/kubeconfig"
}

# Usage: certificate NAME SUBJECT [names of a server]
certificate() {
  local file=$state/pki/$1 names=()
  [[ ! -e $file.crt ]] || return 0
  [[ -z ${3:-} ]] || names=(-addext "subjectAltName=$3")
  openssl_quietly req -x509 -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -days 3650 \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
    -addext basicConstraints=critical,CA:false "${names[@]}" -keyout "$file.key" -out "$file.partial"
  mv "$file.partial" "$file.crt"
}

# Usage: write_kubeconfig USER FILE
write_kubeconfig() {
  [[ ! -e $2 ]] || return 0
  (umask 077 && cat >"$2.partial") <<YAML
apiVersion: v1
kind: Config
current-context: thresher
contexts:
  - name: thresher
    context: {cluster: thresher, user: $1}
clusters:
  - name: thresher
    cluster:
      server: https://$host:$apiserver_port
      certificate-authority-data: $(base64 -w0 "$state/pki/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$state/pki/$1.crt")
      client-key-data: $(base64 -w0 "$state/pki/$1.key")
YAML
  mv "$2.partial" "$2"
}

# openssl, whose dots and remarks are only wanted when it fails.
openssl_quietly() {
  local said
  said=$(openssl "$@" 2>&1) || die "openssl $1 failed: $said"
}
