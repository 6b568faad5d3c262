# Undoing a cluster.

# Stops every process, then removes what they left behind, then the state folder.
clean_everything() {
  local part
  for part in kwok kueue kubelet scheduler controller-manager apiserver etcd registry s3; do kill_part "$part"; done
  kill_pods
  kill_part containerd
  kill_shims
  unmount_below "$state"
  remove_cgroups
  ip link delete "$cluster_name" 2>/dev/null || true
  # Traces that the programs leave outside, under names that are ours.
  remove_network_results
  find /var/log/containers -lname "$state/*" -delete 2>/dev/null || true
  remove_device_plugins
  rm -rf --one-file-system "$state"
}

# Removes what the network's plugins remember of pods that nobody took away before the end.
remove_network_results() {
  local pod
  rm -f "/var/lib/cni/results/$cluster_name"-*
  for pod in "$state"/containerd/root/io.containerd.grpc.v1.cri/sandboxes/*; do
    rm -f "/var/lib/cni/results/cni-loopback-${pod##*/}-lo"
  done
  rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null || true
}

# Removes what every kubelet makes at the same fixed place, unless another one runs.
remove_device_plugins() {
  local folder=/var/lib/kubelet/device-plugins
  # The state R or S says that it is not one that was just killed.
  pgrep -x -r R,S kubelet >/dev/null || rm -f "$folder"/kubelet.sock "$folder"/kubelet_internal_checkpoint "$folder"/DEPRECATION
  rmdir "$folder" /var/lib/kubelet /var/log/containers 2>/dev/null || true
}

# Kills what runs in pods, again and again, since what forks may escape once.
kill_pods() {
  local mount pids
  for _ in {1..50}; do
    pids=$(while read -r mount; do
      find "$mount/$cluster_name" -name cgroup.procs -exec cat {} + 2>/dev/null
    done < <(cgroup_mounts) | sort -u)
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086 # one word for each process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  say "some processes of pods do not end: $pids"
}

# Kills the processes that containerd leaves between itself and containers, known by our socket among their arguments.
kill_shims() {
  local arguments pid
  for arguments in /proc/[0-9]*/cmdline; do
    # The process may have ended since its folder was seen.
    if { tr '\0' '\n' <"$arguments"; } 2>/dev/null | grep -qxF "$(containerd_socket)"; then
      pid=${arguments#/proc/}
      kill -KILL "${pid%/cmdline}" 2>/dev/null || true
    fi
  done
  local address
  find "$state/containerd" -name address -type f 2>/dev/null | while read -r address; do
    rm -f "$(sed 's|^unix://||' "$address")"
  done
}

# Unmounts everything below a folder, the innermost first.
unmount_below() {
  awk -v folder="$1/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do
    umount --lazy "$(printf %b "$mount")" || say "still mounted: $mount"
  done
}

remove_cgroups() {
  local mount
  while read -r mount; do
    [[ ! -d $mount/$cluster_name ]] || find "$mount/$cluster_name" -depth -type d -exec rmdir {} + || say "a control group stays: $mount/$cluster_name"
  done < <(cgroup_mounts)
}
