source tests/tap.sh

is "equal" "$(./semver cmp 1.2.3-rc.1 1.2.3-rc.1)" "="
is "patch" "$(./semver cmp 1.2.3 1.2.4)" "<"
is "minor" "$(./semver cmp 1.3.0 1.2.9)" ">"
is "major" "$(./semver cmp 1.9.9 2.0.0)" "<"
is "two digits" "$(./semver cmp 1.10.0 1.9.0)" ">"
is "words in order" "$(./semver cmp 1.0.0-beta 1.0.0-alpha)" ">"
is "build data is ignored" "$(./semver cmp 1.0.0+5 1.0.0+7-x)" "="
is "nonsense is refused" "$(exit_code ./semver cmp 1.0 1.0.0)" 2
is "pre-release before release" "$(./semver cmp 2.0.0-rc.1 2.0.0)$(./semver cmp 2.0.0 2.0.0-rc.1)" "<>"
is "numeric identifiers as numbers" "$(./semver cmp 1.0.0-rc.10 1.0.0-rc.9)" ">"
is "numbers before words" "$(./semver cmp 1.0.0-alpha.beta 1.0.0-alpha.10)$(./semver cmp 1.0.0-9 1.0.0---)" "><"
is "fewer identifiers first" "$(./semver cmp 1.0.0-alpha.1 1.0.0-alpha)$(./semver cmp 1.0.0-a 1.0.0-a.0)$(./semver cmp 1.0.0-rc.9.1 1.0.0-rc.10)" "><<"
wanted="1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
is "sorted list" "$(tr ' ' '\n' <<<"$wanted" | sort -r | ./semver sort | paste -sd ' ')" "$wanted"
done_testing
