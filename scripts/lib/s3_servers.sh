# The S3 servers that tests run against, installed outside of the checkout. Source this file after common.sh, then
# call `install_s3_servers`, which does nothing for what is there already. Go, Python and cargo fetch them from their
# registries.

versitygw_version=v1.8.0
moto_version=5.2.5
s3s_fs_version=0.14.1

s3_servers=$tools/s3

# Builds or installs the servers that are missing and exports where they are:
#   THRESHER_TEST_VERSITYGW  keeps its objects as files: can be killed and started again
#   THRESHER_TEST_MOTO       keeps them in memory
#   THRESHER_TEST_S3S_FS     checks conditions without ordering them: what a probe must refuse
# Usage: install_s3_servers yes|no   (no: only what is there is exported)
install_s3_servers() {
  mkdir -p "$s3_servers"
  if [[ $1 == yes ]]; then
    s3_server "versitygw-$versitygw_version" build_versitygw
    s3_server "moto-$moto_version" build_moto
    s3_server "s3s-fs-$s3s_fs_version" build_s3s_fs
  fi
  export_s3_server THRESHER_TEST_VERSITYGW "versitygw-$versitygw_version" versitygw
  export_s3_server THRESHER_TEST_MOTO "moto-$moto_version" bin/moto_server
  export_s3_server THRESHER_TEST_S3S_FS "s3s-fs-$s3s_fs_version" bin/s3s-fs
}

# Runs `$2 folder log` for the folder `$1`, unless that was done. A failure only leaves the server out.
s3_server() {
  local folder=$s3_servers/$1 log
  [[ -e $folder/.complete ]] && return 0
  say "installing $1 into $folder (a few minutes, once)"
  log=$(mktemp)
  rm -rf "$folder"
  mkdir -p "$folder"
  if "$2" "$folder" >"$log" 2>&1; then
    touch "$folder/.complete"
  else
    tail -n 5 "$log" >&2
    say "$1 could not be installed: its tests will be skipped"
  fi
  rm -f "$log"
}

# Usage: export_s3_server VARIABLE folder program   (a variable that is set already stays)
export_s3_server() {
  local folder=$s3_servers/$2
  if [[ -z ${!1:-} && -e $folder/.complete ]]; then
    export "$1=$folder/$3"
  fi
}

build_versitygw() {
  command -v go || { echo "Go is not installed"; return 1; }
  CGO_ENABLED=0 GOBIN=$1 go install -ldflags='-s -w' \
    "github.com/versity/versitygw/cmd/versitygw@$versitygw_version"
}

build_moto() {
  /usr/bin/python3 -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$moto_version"
}

build_s3s_fs() {
  # A folder of its own: the checkout's has other settings, and this one is not needed afterwards.
  CARGO_TARGET_DIR=$1/target cargo_install --quiet --root "$1" --features binary "s3s-fs@$s3s_fs_version" &&
    rm -rf "$1/target"
}
