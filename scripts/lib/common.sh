# Functions that the scripts share: source this file. It changes into the repository's root.

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tools=${XDG_CACHE_HOME:-$HOME/.cache}/thresher-tools

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  say "$*"
  exit 1
}

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

# Installs Debian packages, saying so first.
apt_install() {
  command -v apt-get >/dev/null || die "please install with your package manager: $*"
  [[ $(id -u) == 0 ]] || command -v sudo >/dev/null || die "please install as root: apt-get install $*"
  say "installing with apt-get: $*"
  local log
  log=$(mktemp)
  if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    die "apt-get could not install: $*"
  fi
  rm -f "$log"
}

# Whether C programs can be built and linked statically: some dependencies are C, and the guest is a static program.
can_build() {
  local out
  out=$(mktemp)
  if ! echo 'int main(void) { return 0; }' | cc -static -x c -o "$out" - 2>/dev/null; then
    rm -f "$out"
    return 1
  fi
  rm -f "$out"
}

need_cargo() {
  [[ -x $HOME/.cargo/bin/cargo ]] && PATH=$PATH:$HOME/.cargo/bin
  command -v cargo >/dev/null || die "cargo is missing; https://rustup.rs installs it"
}

# Installs a program of crates.io, compiled for a short build: it is a tool, run now and then.
cargo_install() {
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
    CARGO_PROFILE_RELEASE_DEBUG=false cargo install --locked "$@"
}

# Where cargo puts what it builds.
target_dir() {
  cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
