//! The script and its parts.

use crate::swebench::{END, EXIT_CODE, START};

use super::shell::{self, Line};

/// The evaluation script of a dataset row.
///
/// A marker line is a command of its own, `: '>>>>> Start Test Output'` or the same with `echo`. The first start line
/// and the first end line after it count; lines of here-documents never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalScript {
    text: String,
}

/// A script cut at its markers. Each part is a bash script of its own; the later parts start in the state in which the
/// set-up ended: working directory, variables, functions, `set` options and umask.
///
/// Traps, limits and background jobs do not pass from part to part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalParts {
    /// Everything before the start marker; empty when the script has no markers.
    pub setup: Option<String>,
    /// The commands between the markers; the whole script when it has none. Its exit code is the tests'.
    pub test: String,
    /// Everything after the end marker. A sandbox that is thrown away need not run it.
    pub teardown: Option<String>,
}

/// Exit code of a later part whose earlier part did not end, so that there is no state to start from.
const NO_STATE: u8 = 125;

impl EvalScript {
    /// Takes a script as the row holds it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Gives the script as harness 5 runs it as one command: with shebang and `set` line at the top, and with the
    /// tests' exit code kept before the end marker and printed after it. A script without an end marker stays as it is.
    #[must_use]
    pub fn with_exit_code(&self) -> String {
        let Some(end) = self.marker_after(0, END) else { return self.text.clone() };
        let (head, body) = self.head_and_body();
        let report = format!(r#"echo "{EXIT_CODE}$SWEBENCH_TEST_EXIT_CODE""#);
        let mut lines: Vec<&str> = head.to_vec();
        for line in body {
            if line.number == end {
                lines.extend(["SWEBENCH_TEST_EXIT_CODE=$?", line.text, &report]);
            } else {
                lines.push(line.text);
            }
        }
        lines.join("\n") + "\n"
    }

    /// Cuts the script at its markers. `state_file` is an absolute path inside the sandbox through which a part hands
    /// its state on; its directory must exist and be writable.
    #[must_use]
    pub fn split(&self, state_file: &str) -> EvalParts {
        let Some((start, end)) = self.markers() else {
            return EvalParts { setup: None, test: self.text.clone(), teardown: None };
        };
        let (head, body) = self.head_and_body();
        let part = |keep: &dyn Fn(usize) -> bool| -> String {
            body.iter().filter(|line| keep(line.number)).map(|line| format!("{}\n", line.text)).collect()
        };
        let state = quoted(state_file);
        let head: String = head.iter().map(|line| format!("{line}\n")).collect();
        let restore = format!("{SHEBANG}\n{}", restore_state(&state));
        EvalParts {
            setup: Some(format!("{head}{}{}", part(&|line| line < start), save_state(&state))),
            test: format!("{restore}{}", part(&|line| start < line && line < end)),
            teardown: Some(format!("{restore}{}", part(&|line| line > end))),
        }
    }

    /// Finds the numbers of the start line and of the end line after it.
    fn markers(&self) -> Option<(usize, usize)> {
        let start = self.marker_after(0, START)?;
        Some((start, self.marker_after(start, END)?))
    }

    fn marker_after(&self, number: usize, marker: &str) -> Option<usize> {
        let mut commands = shell::lines(&self.text).filter(|line| !line.is_data && line.number > number);
        commands.find(|line| is_marker(line.text, marker)).map(|line| line.number)
    }

    /// Separates the shebang and `set` lines at the top from the rest. Scripts without them get those of the harness.
    fn head_and_body(&self) -> ([&str; 2], Vec<Line<'_>>) {
        let lines: Vec<Line<'_>> = shell::lines(&self.text).collect();
        let shebang = lines.first().map(|line| line.text).filter(|text| text.starts_with("#!"));
        let after = usize::from(shebang.is_some());
        let options = lines.get(after).map(|line| line.text).filter(|text| text.starts_with("set -"));
        let body = lines[after + usize::from(options.is_some())..].to_vec();
        ([shebang.unwrap_or(SHEBANG), options.unwrap_or(OPTIONS)], body)
    }
}

const SHEBANG: &str = "#!/bin/bash";
const OPTIONS: &str = "set -uxo pipefail";

fn is_marker(line: &str, marker: &str) -> bool {
    let text = line.trim();
    let argument = text.strip_prefix(": ").or_else(|| text.strip_prefix("echo ")).map(str::trim);
    argument
        .is_some_and(|argument| ['\'', '"'].iter().any(|quote| argument == format!("{quote}{marker}{quote}")))
}

/// Quotes a path for bash.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Writes options, directory, umask, functions and variables to the state file, without a trace in the log. The
/// options are asked first, because turning the trace off changes them, and restored last; `errexit` is asked for by
/// itself, because a command substitution does not have it.
fn save_state(state: &str) -> String {
    format!(
        r#"{{
__thresher_options="$(shopt -po)"
case $- in *e*) __thresher_options+=$'\nset -o errexit' ;; esac
set +ex
{{
printf 'cd -- %q\n' "$PWD"
umask -p
declare -fp
declare -fpx
declare -p
printf '%s\n' "$__thresher_options"
}} > {state}
}} 2>/dev/null
"#
    )
}

/// Reads the state file, after unsetting what an earlier part may have unset. Read-only variables of bash complain,
/// which is not for the log.
fn restore_state(state: &str) -> String {
    format!(
        "for __thresher_name in $(compgen -e); do unset \"$__thresher_name\"; done 2>/dev/null
{{ . {state}; }} 2>/dev/null || exit {NO_STATE}\n"
    )
}
