source tests/tap.sh

file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat >"$file" <<'INI'
; comment=1
[server]
# host=wrong
host=localhost
[database]
host=db.internal
url=postgres://db/main?sslmode=require
user = reporting
motto =  all work  and no play
INI

is "plain value" "$(./ini get "$file" server host)" localhost
is "same key in another section" "$(./ini get "$file" database host)" db.internal
is "comments are skipped" "$(./ini get "$file" '' comment 2>/dev/null)" ""
is "unknown key fails" "$(exit_code ./ini get "$file" server port)" 1
is "unknown section fails" "$(exit_code ./ini get "$file" client host)" 1
is "sections are listed" "$(./ini sections "$file")" $'server\ndatabase'
is "value with an equals sign" "$(./ini get "$file" database url)" "postgres://db/main?sslmode=require"
is "spaces around the equals sign" "$(./ini get "$file" database user)" reporting
is "spaces inside a value stay" "$(./ini get "$file" database motto)" "all work  and no play"
done_testing
