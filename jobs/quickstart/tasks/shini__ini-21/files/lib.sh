# Functions of ini: reading INI files line by line.

die() {
  echo "ini: $*" >&2
  exit 2
}

# Prints the name if the line opens a section.
section_of() {
  [[ $1 =~ ^\[([^]]+)\]$ ]] && echo "${BASH_REMATCH[1]}"
}

is_comment() {
  [[ $1 =~ ^[[:space:]]*([#\;]|$) ]]
}

ini_sections() {
  local line
  while IFS= read -r line; do
    section_of "$line" || true
  done <"$1"
}

# Prints the value of a key in a section; fails if there is none.
ini_get() {
  local file=$1 section=$2 wanted=$3
  local line current='' key value
  while IFS= read -r line || [[ -n $line ]]; do
    is_comment "$line" && continue
    if [[ $line == \[* ]]; then
      current=$(section_of "$line" || true)
      continue
    fi
    [[ $current == "$section" ]] || continue
    IFS='=' read -r key value _ <<<"$line"
    if [[ $key == "$wanted" ]]; then
      echo "$value"
      return 0
    fi
  done <"$file"
  echo "ini: no key $wanted in section $section" >&2
  return 1
}
