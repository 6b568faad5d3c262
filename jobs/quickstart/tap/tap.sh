# Prints test results as TAP: source this file, call `is` and `runs`, and end with `done_testing`.
tests=0
failures=0

# is NAME GOT WANTED: one test, passed if both texts are the same.
is() {
  tests=$((tests + 1))
  if [[ $2 == "$3" ]]; then
    echo "ok $tests $1"
  else
    failures=$((failures + 1))
    echo "not ok $tests $1"
    printf '#    got: %q\n# wanted: %q\n' "$2" "$3"
  fi
}

# exit_code COMMAND...: runs the command without its output and prints its exit code.
exit_code() { "$@" >/dev/null 2>&1; echo $?; }

done_testing() { echo "1..$tests"; exit $((failures > 0)); }
