source tests/tap.sh

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

echo mon >"$dir/app.log"
./rotate "$dir/app.log" 3
is "first generation" "$(cat "$dir/app.log.1")" mon
is "log is empty afterwards" "$(cat "$dir/app.log")" ""
done_testing
