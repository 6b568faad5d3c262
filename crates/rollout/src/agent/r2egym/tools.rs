//! The tools: their logic runs here, their effects go through the guest. One file per tool, one line in
//! [`Toolbox::call`].

mod concise;
mod execute_bash;
mod file_editor;
mod search;

use std::time::{Duration, Instant};

use serde_json::Value;
use thresher_core::task::Family;
use thresher_sandbox::SandboxError;

use self::file_editor::FileEditor;
use super::call::Arguments;
use crate::agent::Episode;

/// Names of the tools, for the answer to an unknown one.
const NAMES: &str = "file_editor, execute_bash, search, finish";

/// What using a tool gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// What the model is shown.
    pub(super) content: String,
    /// Whether the tool refused or failed.
    pub(super) is_error: bool,
    /// Exit code of a command.
    pub(super) exit_code: Option<i32>,
    /// Bytes left out.
    pub(super) truncated_bytes: u64,
    /// Whether the agent is done.
    pub(super) finished: bool,
    /// How long it took.
    pub(super) duration: Duration,
}

impl Used {
    fn shown(tool: &str, content: String) -> Self {
        Self { content: format!("Execution output of [{tool}]:\n{content}"), ..Self::default() }
    }

    fn error(tool: &str, message: impl std::fmt::Display) -> Self {
        Self { is_error: true, ..Self::shown(tool, format!("ERROR: {message}")) }
    }

    /// The answer to a call that cannot be carried out.
    pub(super) fn refused(complaint: String) -> Self {
        Self { content: format!("ERROR: {complaint}"), is_error: true, ..Self::default() }
    }

    /// The answer to a reply without a call.
    pub(super) fn reminder() -> Self {
        let content = "Every response must hold a function call. Go on with the task by calling one function; \
                       when you are done, call finish.";
        Self { content: content.into(), is_error: true, ..Self::default() }
    }

    fn finish() -> Self {
        Self { content: "<<< Finished >>>".into(), finished: true, ..Self::default() }
    }
}

/// The tools of one rollout.
pub(super) struct Toolbox {
    editor: FileEditor,
    suffix: &'static str,
    timeout: Duration,
}

impl Toolbox {
    pub(super) fn new(episode: &Episode<'_>) -> Self {
        // R2E-Gym and SWE-bench agents are shown Python files only; inline tasks are in any language.
        let suffix = if episode.task.family == Family::Inline { "" } else { ".py" };
        Self {
            editor: FileEditor::default(),
            suffix,
            timeout: Duration::from_secs(episode.spec.command_timeout_s),
        }
    }

    /// Carries a call out. Refusals are answers to the model; only a failing sandbox is an error.
    pub(super) async fn call(
        &mut self,
        episode: &mut Episode<'_>,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Used, SandboxError> {
        let started = Instant::now();
        let suffix = self.suffix_for(arguments);
        let used = match name {
            "file_editor" => self.editor.call(episode, arguments, suffix).await,
            "execute_bash" => execute_bash::call(episode, arguments, self.time_left(episode)).await,
            "search" => search::call(episode, arguments, suffix).await,
            "finish" | "submit" => Ok(Used::finish()),
            _ => Ok(Used::refused(format!("there is no function {name:?}; the functions are {NAMES}"))),
        };
        let used = match used {
            // A file error is an answer; the agent may look for a file that is not there.
            Err(error @ SandboxError::File { .. }) => Used::error(name, error),
            other => other?,
        };
        Ok(Used { duration: started.elapsed(), ..used })
    }

    /// Time for one command: its own limit, within the rollout's wall clock.
    fn time_left(&self, episode: &Episode<'_>) -> Duration {
        let left = Duration::from_secs(episode.spec.wall_limit_s).saturating_sub(episode.elapsed());
        self.timeout.min(left).max(Duration::from_millis(1))
    }

    fn suffix_for(&self, arguments: &Arguments) -> &'static str {
        match flag(arguments, "python_only") {
            Some(true) => ".py",
            Some(false) => "",
            None => self.suffix,
        }
    }
}

/// A text argument.
fn text<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

/// A boolean argument: JSON, or as text mode writes it.
fn flag(arguments: &Arguments, name: &str) -> Option<bool> {
    match arguments.get(name)? {
        Value::Bool(value) => Some(*value),
        Value::String(value) => match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// An integer argument: JSON, or as text mode writes it.
fn integer(arguments: &Arguments, name: &str) -> Option<i64> {
    match arguments.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(value) => value.trim().parse().ok(),
        _ => None,
    }
}

/// Keeps the first and last half of a text that is longer than `limit` bytes, cut at characters. Returns the bytes
/// left out.
fn clip(text: String, limit: usize) -> (String, u64) {
    if text.len() <= limit {
        return (text, 0);
    }
    let head = text.floor_char_boundary(limit / 2);
    let tail = text.ceil_char_boundary(text.len() - limit / 2);
    let dropped = tail - head;
    let marker = format!("\n[... {dropped} bytes left out in the middle ...]\n");
    (format!("{}{marker}{}", &text[..head], &text[tail..]), dropped as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_both_modes() {
        let arguments: Arguments =
            serde_json::from_str(r#"{"a": true, "b": "False", "c": " 7 ", "d": 7, "e": "x"}"#).unwrap();
        assert_eq!((flag(&arguments, "a"), flag(&arguments, "b")), (Some(true), Some(false)));
        assert_eq!((integer(&arguments, "c"), integer(&arguments, "d")), (Some(7), Some(7)));
        assert_eq!(
            (flag(&arguments, "e"), integer(&arguments, "e"), text(&arguments, "z")),
            (None, None, None)
        );
    }

    #[test]
    fn one_long_line_is_clipped_at_characters() {
        let (text, dropped) = clip("ä".repeat(1_000), 101);
        assert!(text.starts_with("ää") && text.ends_with("ää") && text.contains("bytes left out"));
        assert_eq!(dropped as usize + 2 * 25 * 2, 2_000);
        assert_eq!(clip("short".into(), 100), ("short".into(), 0));
    }
}
