# Comparison of semantic versions.

# Ends the program if the argument is no version.
check() {
  [[ $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$ ]] && return
  echo "semver: '$1' is no version" >&2
  exit 2
}

# Prints <, = or > for two numbers.
compare_numbers() {
  if ((10#$1 < 10#$2)); then
    echo '<'
  elif ((10#$1 > 10#$2)); then
    echo '>'
  else
    echo '='
  fi
}

# Prints <, = or > for two texts.
compare_texts() {
  if [[ $1 < $2 ]]; then
    echo '<'
  elif [[ $1 > $2 ]]; then
    echo '>'
  else
    echo '='
  fi
}

# Prints the part after the first -, or nothing.
prerelease() {
  [[ $1 == *-* ]] && echo "${1#*-}" || true
}

# Prints <, = or > for two versions. Build data after + does not count.
compare() {
  local a=${1%%+*} b=${2%%+*} i order
  local -a left right
  IFS=. read -ra left <<<"${a%%-*}"
  IFS=. read -ra right <<<"${b%%-*}"
  for i in 0 1 2; do
    order=$(compare_numbers "${left[i]}" "${right[i]}")
    if [[ $order != '=' ]]; then
      echo "$order"
      return
    fi
  done
  compare_texts "$(prerelease "$a")" "$(prerelease "$b")"
}

# Insertion sort: the lists are short.
sort_versions() {
  local -a sorted=()
  local version i
  while read -r version; do
    for ((i = ${#sorted[@]}; i > 0; i--)); do
      [[ $(compare "${sorted[i - 1]}" "$version") == '>' ]] || break
      sorted[i]=${sorted[i - 1]}
    done
    sorted[i]=$version
  done
  printf '%s\n' "${sorted[@]}"
}
