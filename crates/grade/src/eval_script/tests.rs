//! Scripts are cut, and the parts are run with the machine's own bash to see that state passes between them.

use std::path::Path;
use std::process::{Command, Output};

use super::*;

const SCRIPT: &str = r#"#!/bin/bash
set -uxo pipefail
cd /
export GREETING="it's
here"
local_only=kept
helper() { printf '%s from %s\n' "$1" "$PWD"; }
cat <<'EOF_1' > /dev/null
: '>>>>> Start Test Output'
pip install nothing
EOF_1
umask 027
unset INHERITED
: '>>>>> Start Test Output'
helper "$GREETING $local_only ${INHERITED-gone} $(umask)"
false | cat
: '>>>>> End Test Output'
echo "after $GREETING"
"#;

/// Runs one part as a sandbox does: as a script of its own.
fn run(part: &str, folder: &Path) -> Output {
    let script = folder.join("part.sh");
    std::fs::write(&script, part).unwrap();
    Command::new("bash").arg(&script).env("INHERITED", "here").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn parts_run_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("the state's file");
    let parts = EvalScript::new(SCRIPT).split(state.to_str().unwrap());

    let setup = run(&parts.setup.unwrap(), folder.path());
    assert!(setup.status.success(), "{setup:?}");
    let trace = text(&setup.stderr);
    assert!(
        trace.contains("+ cd /\n") && trace.trim_end().ends_with("unset INHERITED"),
        "only the script's own trace: {trace}"
    );

    let test = run(&parts.test, folder.path());
    assert_eq!(text(&test.stdout), "it's\nhere kept gone 0027 from /\n");
    assert_eq!(test.status.code(), Some(1), "pipefail is on, so the last pipeline decides");
    let trace = text(&test.stderr);
    assert!(trace.starts_with("++ umask\n+ helper"), "the trace is on and begins with the tests: {trace}");

    let teardown = run(&parts.teardown.unwrap(), folder.path());
    assert_eq!(text(&teardown.stdout), "after it's\nhere\n");
}

#[test]
fn options_pass_from_part_to_part() {
    // The lines before the markers, a test, its exit code and whether it is traced.
    let cases = [
        ("{ set +x; } 2>/dev/null", "echo ran", 0, false),
        ("set -e", "false; echo not reached", 1, true),
        ("set +u", "echo \"$missing\"", 0, true),
        (":", "echo \"$missing\"", 1, false),
        ("set +o pipefail", "false | true", 0, true),
        ("exported() { return 7; }; export -f exported", "bash -c exported", 7, true),
        ("readonly fixed=3", "exit \"$fixed\"", 3, true),
        ("list=(a 'b c'); declare -A by_name=([x]=1)", "exit $(( ${#list[@]} + by_name[x] ))", 3, true),
    ];
    for (before, test, code, traced) in cases {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let script = format!(
            "#!/bin/bash\nset -uxo pipefail\n{before}\n: '>>>>> Start Test Output'\n{test}\n: '>>>>> End Test Output'\n"
        );
        let parts = EvalScript::new(script).split(state.to_str().unwrap());
        run(&parts.setup.unwrap(), folder.path());
        let output = run(&parts.test, folder.path());
        assert_eq!(output.status.code(), Some(code), "{before:?} {test:?} {output:?}");
        assert_eq!(text(&output.stderr).contains("+ "), traced, "{before:?} {output:?}");
        assert!(!text(&output.stdout).contains("not reached"));
    }
}

#[test]
fn a_test_part_without_state_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let script = "set -x\nexit 4\n: '>>>>> Start Test Output'\necho ran\n: '>>>>> End Test Output'\n";
    let parts = EvalScript::new(script).split(folder.path().join("state").to_str().unwrap());
    assert_eq!(run(&parts.setup.unwrap(), folder.path()).status.code(), Some(4));
    let test = run(&parts.test, folder.path());
    assert_eq!((test.status.code(), text(&test.stdout)), (Some(125), String::new()));
}

#[test]
fn scripts_without_markers_are_all_test() {
    let unmarked = [
        "#!/bin/bash\npytest\n",
        "",
        ": '>>>>> Start Test Output'\npytest\n",
        "cat <<A\n: '>>>>> Start Test Output'\n: '>>>>> End Test Output'\nA\n",
        "echo x: '>>>>> Start Test Output'\necho '>>>>> End Test Output' x\n",
    ];
    for script in unmarked {
        let whole = EvalParts { setup: None, test: script.to_owned(), teardown: None };
        assert_eq!(EvalScript::new(script).split("/s"), whole, "{script:?}");
        assert_eq!(EvalScript::new(script).with_exit_code(), script);
    }
    let reversed = ": '>>>>> End Test Output'\npytest\n: '>>>>> Start Test Output'\n";
    assert_eq!(EvalScript::new(reversed).split("/s").test, reversed, "an end before the start ends nothing");
}

#[test]
fn the_exit_code_is_kept_and_printed() {
    let tail = ": '>>>>> Start Test Output'\npytest\nSWEBENCH_TEST_EXIT_CODE=$?\n: '>>>>> End Test Output'\n\
                echo \">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE\"\nrm x\n";
    let body = ": '>>>>> Start Test Output'\npytest\n: '>>>>> End Test Output'\nrm x";
    let heads = ["#!/bin/bash\nset -uxo pipefail\n", "#!/bin/bash\n", "set -uxo pipefail\n", ""];
    for head in heads {
        let script = EvalScript::new(format!("{head}{body}"));
        assert_eq!(script.with_exit_code(), format!("#!/bin/bash\nset -uxo pipefail\n{tail}"), "{head:?}");
    }
}

#[test]
fn markers_may_be_echoed() {
    let script = "echo '>>>>> Start Test Output'\n(a) | cat\necho \">>>>> End Test Output\"\nb\n";
    let parts = EvalScript::new(script).split("/s");
    assert!(parts.test.ends_with("\n(a) | cat\n") && parts.teardown.unwrap().ends_with("\nb\n"));
}

#[test]
fn network_commands_are_found() {
    let needing = [
        "python -m pip install -e .[test] --verbose",
        "pip3.9 install x",
        "apt-get update && apt-get -y install locales",
        "sudo apt install x",
        "conda install -n testbed x",
        "cd a && npm ci",
        "npm i",
        "yarn",
        "yarn install --frozen-lockfile",
        "npx playwright install",
        "curl -sSL https://x | bash",
        "(wget x)",
        "git submodule update --init",
        "git -C /x clone y",
        "go mod download",
        "cargo fetch",
        "bundle install",
        "composer install",
        "python setup.py install",
        "uv pip install x",
        "/opt/venv/bin/pip install x",
        "python -m pip install --no-build-isolation -e .",
    ];
    for command in needing {
        let uses = network_uses(&format!("set -x\n{command}\n"));
        assert_eq!(uses.iter().map(|found| found.line).collect::<Vec<_>>(), [2], "{command}");
    }
}

#[test]
fn other_commands_need_no_network() {
    let local = [
        "# pip install x",
        "pip list",
        "pip install --no-index x",
        "pip install --no-deps --no-build-isolation -e .",
        "pytest -rA tests/test_pip.py",
        "cargo test --package ripgrep",
        "go test ./...",
        "mvn test -Dtest=A",
        "git apply -v - <<'E'\n+pip install x\nE\ngit status",
        "cat <<-E\n\tcurl x\n\tE\ngit checkout abc path",
        "cat <<< 'x' && make",
        "git config --global --add safe.directory /testbed",
        "yarn jest a --verbose",
        "npx mocha -R tap",
        "npm test",
        "npm run build",
        "./configure --with-curl",
        "rm -f a/wget/b.py",
        "",
    ];
    for command in local {
        assert!(!needs_network(command), "{command}: {:?}", network_uses(command));
    }
}

#[test]
fn locale_gen_is_found() {
    let cases = [
        ("sed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen", true),
        ("/usr/sbin/locale-gen en_US.UTF-8", true),
        ("cat /etc/locale.gen", false),
        ("# locale-gen", false),
        ("./my-locale-gen-tool", false),
        ("cat <<E\nlocale-gen\nE", false),
    ];
    for (script, expected) in cases {
        assert_eq!(runs_locale_gen(script), expected, "{script}");
    }
}
