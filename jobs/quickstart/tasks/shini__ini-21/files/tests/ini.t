source tests/tap.sh

is "plain value" "$(./ini get examples/app.ini server port)" 8080
is "same key in another section" "$(./ini get examples/app.ini database host)" db.internal
is "sections are listed" "$(./ini sections examples/app.ini)" $'server\ndatabase'
done_testing
