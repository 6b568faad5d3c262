source tests/tap.sh

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
log=$dir/app.log

echo keep >"$dir/app.log.backup"
for day in mon tue wed thu; do
  echo "$day" >"$log"
  ./rotate "$log" 3
done
is "log is empty afterwards" "$(cat "$log")" ""
is "first generation" "$(cat "$log.1")" thu
is "second generation" "$(cat "$log.2")" wed
is "third generation" "$(cat "$log.3")" tue
is "every line once" "$(cat "$log".[0-9]* | sort | paste -sd ' ')" "thu tue wed"

./rotate "$log" 3
is "empty log is left alone" "$(cat "$log.1")" thu
is "missing log fails" "$(exit_code ./rotate "$dir/none.log" 3)" 1

echo old >"$log.4"
echo older >"$log.5"
echo fri >"$log"
./rotate "$log" 2
is "no more than keep" "$(cat "$log".[0-9]* | paste -sd ' ')" "fri thu"
is "other files stay" "$(cat "$dir/app.log.backup")" keep

gap=$dir/gap.log
echo two >"$gap.2"
echo now >"$gap"
./rotate "$gap" 4
is "gap in the generations" "$(cat "$gap.1" "$gap.3" 2>/dev/null | paste -sd ' '; ls "$gap.2" 2>/dev/null)" "now two"
done_testing
