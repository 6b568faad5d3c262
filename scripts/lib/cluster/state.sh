# The state folder of a cluster: its settings, and its processes.
#
#   settings          addresses and ports, chosen once
#   kubeconfig        for the cluster's administrator
#   process/<part>    process id and start time (in clock ticks since boot) of what was started
#   log/<part>.log
#   kueue             if Kueue is a part of it

parts=(etcd apiserver controller-manager scheduler containerd kubelet registry s3)

# Whether the user has a cluster already, which answers.
uses_given_cluster() {
  [[ $own_state == no && -n ${KUBECONFIG:-} && $KUBECONFIG != "$state/kubeconfig" ]] &&
    "$(kubectl_program)" --request-timeout=10s get --raw /readyz >/dev/null 2>&1
}

# Only one command at a time makes or removes clusters, because they choose addresses and build programs.
lock() {
  mkdir -p "$tools"
  exec 9>"$tools/cluster.lock"
  flock 9
}

make_state() {
  # A socket's path has 107 bytes at most; the longest of ours is …/containerd/containerd.sock.ttrpc.
  [[ ${#state} -le 70 ]] || die "the path of the state folder is too long for sockets: $state"
  mkdir -p "$state"/{process,log,pki}
  chmod 700 "$state/pki"
  if [[ ! -e $state/settings ]]; then
    # What could not be chosen must not look as if it had been.
    choose_settings >"$state/settings.partial"
    mv "$state/settings.partial" "$state/settings"
  fi
  load_settings
}

load_settings() {
  [[ -e $state/settings ]] || die "no cluster in $state; start one with: scripts/cluster up"
  # shellcheck disable=SC1091 # written by choose_settings
  source "$state/settings"
  export KUBECONFIG=$state/kubeconfig
  [[ ! -e $state/kueue || " ${parts[*]} " == *" kueue "* ]] || parts+=(kueue)
  # What is asked here is on this machine.
  unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
}

# Chooses a network, addresses in it, and ports that nothing listens on.
#
# The services' range lies in the pods' network and begins with the bridge's address, which so becomes the address of the
# service `kubernetes`: the API server listens there itself, and programs in pods find it without kube-proxy.
choose_settings() {
  local id prefix host part port
  id=$(printf %s "$state" | cksum | cut -d ' ' -f 1)
  prefix=$(free_network $((id % 256)))
  host=$prefix.1
  printf '%s\n' "cluster_name=thresher-${prefix##*.}" "prefix=$prefix" "host=$host"
  while read -r part port; do
    # shellcheck disable=SC2086 # several ports are several words
    port=$(free_port $port)
    echo "${part}_port=$port"
  done <<PORTS
apiserver $host 443 6443
kubelet $host 10250
registry $host 5000
s3 $host 7070
etcd 127.0.0.1 23790
etcd_peer 127.0.0.1 23890
PORTS
}

# Prints the first three bytes of a /24 network that no route of this machine knows, starting to look at 10.231.$1.
free_network() {
  local third
  for ((third = $1; third < $1 + 256; third++)); do
    if [[ -z $(ip -4 route show root "10.231.$((third % 256)).0/24") ]]; then
      echo "10.231.$((third % 256))"
      return
    fi
  done
  die "no network below 10.231.0.0/16 is free"
}

# Prints the first of the given ports, then of their successors, that nothing listens on. None is in the range from which
# the kernel takes ports for clients: they stay free while a part is stopped.
# Usage: free_port ADDRESS PORT…
free_port() {
  local address=$1 used port
  shift
  # Who listens on all addresses listens on this one too.
  used=$(ss -Hltn | awk -v address="$address" '{ port = $4; sub(/.*:/, "", port); sub(/:[0-9]+$/, "", $4) }
    $4 == address || $4 == "0.0.0.0" || $4 == "*" || $4 == "[::]" { print port }')
  for port in "$@" $(seq $((${!#} + 1)) $((${!#} + 99))); do
    if ! grep -qx "$port" <<<"$used"; then
      echo "$port"
      return
    fi
  done
  die "no port is free near $1"
}

# Starts a command as the part NAME, away from this terminal and this environment.
# Usage: spawn NAME command…
spawn() {
  local name=$1
  shift
  # The lock (9) is not for the child.
  setsid env -i PATH="$PATH:/usr/sbin:/sbin" HOME="$state" "$@" >>"$state/log/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(start_time $!)" >"$state/process/$name"
}

# Prints the process id of a part that was started.
process_of() { cut -d ' ' -f 1 "$state/process/$1" 2>/dev/null; }

# Whether a part runs: its process is there, is no zombie, and is not a later one with the same id.
runs() {
  local pid started
  read -r pid started 2>/dev/null <"$state/process/$1" || return 1
  [[ $(start_time "$pid") == "$started" ]]
}

# Prints when a process was started; nothing for a zombie.
start_time() { awk '$3 != "Z" { print $22 }' "/proc/$1/stat" 2>/dev/null || true; }

# Kills a part as a crash would. Nothing happens where it does not run.
kill_part() {
  if runs "$1"; then
    kill -KILL "$(process_of "$1")"
    while runs "$1"; do sleep 0.05; done
  fi
  rm -f "$state/process/$1"
}

# Waits until a command succeeds, as long as the part runs, and for five minutes at most.
# Usage: wait_until PART command…
wait_until() {
  local part=$1 deadline=$((SECONDS + 300))
  shift
  until "$@" >/dev/null 2>&1; do
    if [[ $SECONDS -ge $deadline ]]; then
      tail -n 10 "$state/log/$part.log" >&2
      die "$part runs and does not get ready; its log is $state/log/$part.log"
    fi
    if ! runs "$part"; then
      tail -n 10 "$state/log/$part.log" >&2
      die "$part does not run; its log is $state/log/$part.log"
    fi
    sleep 0.1
  done
}

listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Prints the cluster's variables as shell commands.
print_variables() {
  export_line KUBECONFIG "$state/kubeconfig"
  export_line THRESHER_CLUSTER_REGISTRY "$host:$registry_port"
  export_line THRESHER_CLUSTER_S3 "http://$host:$s3_port"
  export_line THRESHER_CLUSTER_HOST "$host"
  export_line THRESHER_CLUSTER_STATE "$state"
  export_line AWS_ACCESS_KEY_ID "$s3_key"
  export_line AWS_SECRET_ACCESS_KEY "$s3_secret"
  export_line AWS_REGION us-east-1
  export_line AWS_ENDPOINT_URL_S3 "http://$host:$s3_port"
  # First, since kubectl may be at most one minor version older than the cluster.
  [[ :$PATH: == *:$programs:* ]] || printf 'export PATH=%q:"$PATH"\n' "$programs"
  # Programs that go out through a proxy must not look for the cluster there.
  local exceptions=${NO_PROXY:-${no_proxy:-}}
  [[ ,$exceptions, == *,$host,* ]] || export_line NO_PROXY "${exceptions:+$exceptions,}$host"
}

# Prints what is known of a cluster that was not started here.
print_given() {
  local name
  for name in KUBECONFIG THRESHER_CLUSTER_REGISTRY THRESHER_CLUSTER_S3 THRESHER_CLUSTER_HOST; do
    [[ -z ${!name:-} ]] || export_line "$name" "${!name}"
  done
}

export_line() { printf 'export %s=%q\n' "$1" "$2"; }
