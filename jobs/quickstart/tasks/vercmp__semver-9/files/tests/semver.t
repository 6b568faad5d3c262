source tests/tap.sh

is "equal" "$(./semver cmp 1.2.3 1.2.3)" "="
is "patch" "$(./semver cmp 1.2.3 1.2.4)" "<"
is "two digits" "$(./semver cmp 1.10.0 1.9.0)" ">"
done_testing
