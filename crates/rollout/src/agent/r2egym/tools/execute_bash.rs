//! `execute_bash`: one command in a new shell, in the repository's folder.

use std::time::Duration;

use thresher_sandbox::{Command, CommandEnd, CommandOutput, SandboxError, Streams};

use super::{Used, clip, text};
use crate::agent::Episode;
use crate::agent::r2egym::call::Arguments;

const TOOL: &str = "execute_bash";
/// Programs that are refused as the first word: history is not for reading, and the others need a terminal.
const REFUSED: &[&str] = &["git", "ipython", "jupyter", "nohup"];
/// Lines shown: the first and the last forty.
const MAX_LINES: usize = 80;
/// Bytes shown, whatever the lines.
const MAX_BYTES: usize = 40_000;
/// Bytes kept per stream inside the sandbox.
const OUTPUT_CAP: usize = 256 * 1024;

/// Runs the command.
pub(super) async fn call(
    episode: &mut Episode<'_>,
    arguments: &Arguments,
    timeout: Duration,
) -> Result<Used, SandboxError> {
    // `cmd` is the scaffold's name for it; models trained on others write `command`.
    let Some(script) = text(arguments, "cmd").or_else(|| text(arguments, "command")) else {
        return Ok(Used::error(TOOL, "parameter cmd is required"));
    };
    let first = script.split_whitespace().next().unwrap_or_default();
    if first.is_empty() {
        return Ok(Used::error(
            TOOL,
            "the command is empty; every call is a new shell, there is nothing to continue",
        ));
    }
    if REFUSED.contains(&first) {
        let content =
            format!("Exit code: 1\nExecution output of [{TOOL}]:\nERROR: {first} may not be used here");
        return Ok(Used { content, is_error: true, exit_code: Some(1), ..Used::default() });
    }
    let command = Command::bash(script)
        .env(episode.env.clone())
        .cwd(episode.workdir.clone())
        .timeout(timeout)
        .output_cap(OUTPUT_CAP)
        .streams(Streams::Separate);
    let output = episode.sandbox.run(&command).await?;
    Ok(show(&output, timeout))
}

/// Puts the output into the form that the scaffold's models know.
fn show(output: &CommandOutput, timeout: Duration) -> Used {
    let stdout = stream(&output.stdout, output.stdout_dropped, output.stdout_gap);
    let stderr = stream(&output.stderr, output.stderr_dropped, None);
    let head = match output.end {
        CommandEnd::TimedOut => format!(
            "ERROR: the command took longer than {} s and was killed; its output until then:\n",
            timeout.as_secs()
        ),
        CommandEnd::Signaled(signal) => format!("ERROR: the command was ended by signal {signal}\n"),
        CommandEnd::NotStarted(errno) => format!("ERROR: the shell could not be started (errno {errno})\n"),
        CommandEnd::Exited(_) => String::new(),
    };
    let code = if output.end == CommandEnd::TimedOut { -1 } else { output.end.shell_code() };
    let body = format!("{head}[STDOUT]\n\n{stdout}\n\n[STDERR]\n\n{stderr}");
    let (body, lines_cut) = middle_lines_out(body);
    let (body, bytes_cut) = clip(body, MAX_BYTES);
    Used {
        content: format!("Exit code: {code}\nExecution output of [{TOOL}]:\n{body}"),
        is_error: !output.end.is_success(),
        exit_code: Some(code),
        truncated_bytes: output.stdout_dropped + output.stderr_dropped + lines_cut + bytes_cut,
        ..Used::default()
    }
}

fn stream(bytes: &[u8], dropped: u64, gap: Option<usize>) -> String {
    if dropped == 0 {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let (head, tail) = bytes.split_at(gap.unwrap_or(bytes.len() / 2).min(bytes.len()));
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    format!("{head}\n[... {dropped} bytes left out ...]\n{tail}")
}

/// Keeps the first and last forty lines of a text with more than eighty.
fn middle_lines_out(text: String) -> (String, u64) {
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() <= MAX_LINES {
        return (text, 0);
    }
    let (head, rest) = lines.split_at(MAX_LINES / 2);
    let (middle, tail) = rest.split_at(rest.len() - MAX_LINES / 2);
    let dropped: usize = middle.iter().map(|line| line.len() + 1).sum();
    let divider = "-".repeat(50);
    let marker =
        format!("{divider}\n<Observation truncated in middle: {} lines left out>\n{divider}", middle.len());
    (format!("{}\n{marker}\n{}", head.join("\n"), tail.join("\n")), dropped as u64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn output(end: CommandEnd, stdout: &str) -> CommandOutput {
        CommandOutput {
            end,
            stdout: Bytes::copy_from_slice(stdout.as_bytes()),
            stderr: Bytes::new(),
            stdout_dropped: 0,
            stderr_dropped: 0,
            stdout_gap: None,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            max_rss: 0,
        }
    }

    #[test]
    fn ends_are_shown_with_their_code() {
        for (end, code, error) in [
            (CommandEnd::Exited(0), 0, ""),
            (CommandEnd::Exited(3), 3, ""),
            (CommandEnd::TimedOut, -1, "took longer than 9 s"),
            (CommandEnd::Signaled(9), 137, "ended by signal 9"),
        ] {
            let used = show(&output(end, "out"), Duration::from_secs(9));
            assert!(
                used.content
                    .starts_with(&format!("Exit code: {code}\nExecution output of [execute_bash]:\n"))
            );
            assert!(used.content.contains(error) && used.content.contains("[STDOUT]\n\nout\n\n[STDERR]"));
            assert_eq!((used.exit_code, used.is_error), (Some(code), code != 0));
        }
    }

    #[test]
    fn long_output_loses_its_middle() {
        let lines: String = (0..500).map(|line| format!("{line}\n")).collect();
        let used = show(&output(CommandEnd::Exited(0), &lines), Duration::from_secs(9));
        assert!(used.content.contains("\n37\n") && !used.content.contains("\n250\n"));
        assert!(used.content.contains("\n499\n") && used.truncated_bytes > 0);
        let one_line = show(&output(CommandEnd::Exited(0), &"x".repeat(1 << 20)), Duration::from_secs(9));
        assert!(one_line.content.len() < MAX_BYTES + 1_000 && one_line.truncated_bytes > 0);
    }
}
