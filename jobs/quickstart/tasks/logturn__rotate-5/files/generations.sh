# The numbered generations of a log file.

# Moves every generation up by one, so that LOG.1 is free.
shift_generations() {
  local log=$1 keep=$2 i
  for ((i = 1; i < keep; i++)); do
    if [[ -e $log.$i ]]; then
      cp -p "$log.$i" "$log.$((i + 1))"
    fi
  done
}
