//! `file_editor`: view, create, str_replace, insert, undo_edit. Edits keep every byte that they do not replace.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;
use thresher_sandbox::{EntryKind, FileMode, SandboxError};

use super::{Used, clip, concise, flag, integer, text};
use crate::agent::Episode;
use crate::agent::r2egym::call::Arguments;
use crate::workspace::join;

const TOOL: &str = "file_editor";
/// Bytes shown of a view or a reply.
const MAX_BYTES: usize = 10_000;
/// Largest file that is viewed or edited.
const MAX_FILE: u64 = 16 << 20;
/// Python files with more lines are shown as a skeleton unless the model asks otherwise.
const LONG_FILE: usize = 110;
/// Lines shown around an edit.
const CONTEXT: usize = 4;
/// Folder entries listed at most.
const MAX_ENTRIES: usize = 2_000;

/// The editor of one rollout: it remembers what it replaced.
#[derive(Default)]
pub(super) struct FileEditor {
    history: HashMap<String, Vec<Previous>>,
}

/// A file's state before an edit.
enum Previous {
    Absent,
    Content(Bytes),
}

/// An answer to the model: its text, or why the tool refused.
type Answer = Result<String, String>;

impl FileEditor {
    /// Carries one command out.
    pub(super) async fn call(
        &mut self,
        episode: &mut Episode<'_>,
        arguments: &Arguments,
        suffix: &str,
    ) -> Result<Used, SandboxError> {
        let (Some(command), Some(path)) = (text(arguments, "command"), text(arguments, "path")) else {
            return Ok(Used::error(TOOL, "parameters command and path are required"));
        };
        let path = join(&episode.workdir, path.trim());
        let answer = match command.trim() {
            "view" => view(episode, &path, arguments, suffix).await?,
            "create" => self.create(episode, &path, arguments).await?,
            "str_replace" => self.str_replace(episode, &path, arguments).await?,
            "insert" => self.insert(episode, &path, arguments).await?,
            "undo_edit" => self.undo_edit(episode, &path).await?,
            other => Err(format!(
                "there is no command {other:?}; the commands are view, create, str_replace, insert, undo_edit"
            )),
        };
        Ok(match answer {
            Ok(content) => {
                let (content, truncated_bytes) = clipped(content);
                Used { truncated_bytes, ..Used::shown(TOOL, content) }
            }
            Err(message) => Used::error(TOOL, message),
        })
    }

    async fn create(
        &mut self,
        episode: &mut Episode<'_>,
        path: &str,
        arguments: &Arguments,
    ) -> Result<Answer, SandboxError> {
        let Some(content) = text(arguments, "file_text") else {
            return Ok(Err("create needs parameter file_text".into()));
        };
        if episode.sandbox.stat(path).await?.is_some() {
            return Ok(Err(format!(
                "{path} exists already; create makes new files only, edit it with str_replace"
            )));
        }
        episode.sandbox.write(path, content.as_bytes(), FileMode::Plain).await?;
        self.history.entry(path.to_owned()).or_default().push(Previous::Absent);
        Ok(Ok(format!("File created at {path}. Its content:\n{}", numbered(content, 1))))
    }

    async fn str_replace(
        &mut self,
        episode: &mut Episode<'_>,
        path: &str,
        arguments: &Arguments,
    ) -> Result<Answer, SandboxError> {
        let Some(old) = text(arguments, "old_str").filter(|old| !old.is_empty()) else {
            return Ok(Err("str_replace needs parameter old_str".into()));
        };
        let new = text(arguments, "new_str").unwrap_or_default();
        let before = match read_file(episode, path).await? {
            Ok(content) => content,
            Err(message) => return Ok(Err(message)),
        };
        let (after, at) = match replace_once(&before, old.as_bytes(), new.as_bytes()) {
            Ok(edit) => edit,
            Err(0) => {
                return Ok(Err(format!("no occurrence of old_str in {path}; it must match exactly:\n{old}")));
            }
            Err(count) => {
                return Ok(Err(format!(
                    "{count} occurrences of old_str in {path}; give more context to make it unique"
                )));
            }
        };
        self.write_over(episode, path, before, &after).await?;
        let line = after[..at].iter().filter(|byte| **byte == b'\n').count();
        let snippet = snippet(&after, line, new.matches('\n').count());
        Ok(Ok(format!(
            "{path} has been edited. The lines around the edit:\n{snippet}\nCheck that they are as you want them."
        )))
    }

    async fn insert(
        &mut self,
        episode: &mut Episode<'_>,
        path: &str,
        arguments: &Arguments,
    ) -> Result<Answer, SandboxError> {
        let (Some(line), Some(new)) = (integer(arguments, "insert_line"), text(arguments, "new_str")) else {
            return Ok(Err("insert needs parameters insert_line (an integer) and new_str".into()));
        };
        let before = match read_file(episode, path).await? {
            Ok(content) => content,
            Err(message) => return Ok(Err(message)),
        };
        let lines = line_count(&before);
        let Some(line) = usize::try_from(line).ok().filter(|line| *line <= lines) else {
            return Ok(Err(format!("insert_line {line} is not in 0..={lines}, the lines of {path}")));
        };
        let after = insert_after(&before, line, new);
        self.write_over(episode, path, before, &after).await?;
        let snippet = snippet(&after, line, new.trim_end_matches('\n').matches('\n').count());
        Ok(Ok(format!(
            "{path} has been edited. The lines around the edit:\n{snippet}\nCheck that they are as you want them."
        )))
    }

    async fn undo_edit(&mut self, episode: &mut Episode<'_>, path: &str) -> Result<Answer, SandboxError> {
        let Some(previous) = self.history.get_mut(path).and_then(Vec::pop) else {
            return Ok(Err(format!("there is no edit of {path} to take back")));
        };
        Ok(Ok(match previous {
            Previous::Absent => {
                episode.sandbox.remove(path).await?;
                format!("The creation of {path} has been taken back.")
            }
            Previous::Content(content) => {
                episode.sandbox.write(path, &content, FileMode::Keep).await?;
                let content = String::from_utf8_lossy(&content);
                format!(
                    "The last edit of {path} has been taken back. Its content:\n{}",
                    numbered(&content, 1)
                )
            }
        }))
    }

    async fn write_over(
        &mut self,
        episode: &mut Episode<'_>,
        path: &str,
        before: Bytes,
        after: &[u8],
    ) -> Result<(), SandboxError> {
        episode.sandbox.write(path, after, FileMode::Keep).await?;
        self.history.entry(path.to_owned()).or_default().push(Previous::Content(before));
        Ok(())
    }
}

async fn read_file(episode: &mut Episode<'_>, path: &str) -> Result<Result<Bytes, String>, SandboxError> {
    match episode.sandbox.stat(path).await? {
        None => Ok(Err(format!("{path} does not exist"))),
        Some((EntryKind::Directory, _)) => Ok(Err(format!("{path} is a folder; only view works on folders"))),
        Some((_, size)) if size > MAX_FILE => {
            Ok(Err(format!("{path} is too large for the editor ({size} bytes); use execute_bash")))
        }
        Some(_) => Ok(Ok(episode.sandbox.read(path, MAX_FILE).await?)),
    }
}

async fn view(
    episode: &mut Episode<'_>,
    path: &str,
    arguments: &Arguments,
    suffix: &str,
) -> Result<Answer, SandboxError> {
    match episode.sandbox.stat(path).await? {
        None => Ok(Err(format!("{path} does not exist"))),
        Some((EntryKind::Directory, _)) => view_folder(episode, path, arguments, suffix).await,
        Some(_) if !path.ends_with(suffix) => Ok(Err(format!(
            "view shows only {suffix} files, and {path} is none; use execute_bash to look at it"
        ))),
        Some(_) => Ok(match read_file(episode, path).await? {
            Ok(content) => view_text(path, &String::from_utf8_lossy(&content), arguments),
            Err(message) => Err(message),
        }),
    }
}

async fn view_folder(
    episode: &mut Episode<'_>,
    path: &str,
    arguments: &Arguments,
    suffix: &str,
) -> Result<Answer, SandboxError> {
    if arguments.contains_key("view_range") {
        return Ok(Err(format!("{path} is a folder; view_range works on files")));
    }
    let entries = episode.sandbox.list(path, 2, true, MAX_ENTRIES).await?;
    let mut lines = vec![path.to_owned()];
    lines.extend(
        entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Directory || entry.path.ends_with(suffix))
            .map(|entry| join(path, &entry.path)),
    );
    let note = if suffix.is_empty() { "files" } else { "folders and Python files" };
    Ok(Ok(format!("The {note} up to 2 levels below {path}, without hidden ones:\n{}", lines.join("\n"))))
}

fn view_text(path: &str, content: &str, arguments: &Arguments) -> Answer {
    let lines = content.split('\n').count();
    let range = view_range(arguments, lines)?;
    let is_python = path.ends_with(".py");
    let wants_skeleton = match (flag(arguments, "concise"), range) {
        (Some(wanted), _) => wanted && is_python,
        (None, Some(_)) => false,
        (None, None) => is_python && lines > LONG_FILE,
    };
    if wants_skeleton {
        let skeleton = concise::skeleton(content, range).map_err(|line| {
            format!("{path} has a syntax error near line {line}; view it with concise False")
        })?;
        return Ok(format!(
            "A condensed view of {path}; use view_range with concise False to see the left-out lines:\n{skeleton}"
        ));
    }
    let (first, last) = range.unwrap_or((1, lines));
    let text: Vec<&str> = content.split('\n').skip(first - 1).take(last + 1 - first).collect();
    Ok(format!("The numbered lines of {path}:\n{}", numbered(&text.join("\n"), first)))
}

/// Reads `view_range`: `[first, last]`, lines from 1, last -1 for the end. Text mode writes it as text.
fn view_range(arguments: &Arguments, lines: usize) -> Result<Option<(usize, usize)>, String> {
    let wrong = || format!("view_range must be [first, last] with 1 <= first <= last <= {lines}, or last -1");
    let value = match arguments.get("view_range") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => serde_json::from_str(text.trim()).map_err(|_| wrong())?,
        Some(value) => value.clone(),
    };
    let (first, last): (i64, i64) = serde_json::from_value(value).map_err(|_| wrong())?;
    let last = if last == -1 { lines as i64 } else { last };
    if first < 1 || last < first || last > lines as i64 {
        return Err(wrong());
    }
    Ok(Some((first as usize, last as usize)))
}

/// Replaces the one occurrence of `old`; `Err` holds how many there are otherwise.
fn replace_once(content: &[u8], old: &[u8], new: &[u8]) -> Result<(Vec<u8>, usize), usize> {
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&content[from..], old) {
        places.push(from + at);
        from += at + 1;
    }
    let [at] = places[..] else { return Err(places.len()) };
    Ok(([&content[..at], new, &content[at + old.len()..]].concat(), at))
}

fn find(content: &[u8], needle: &[u8]) -> Option<usize> {
    content.windows(needle.len()).position(|window| window == needle)
}

fn line_count(content: &[u8]) -> usize {
    let breaks = content.iter().filter(|byte| **byte == b'\n').count();
    breaks + usize::from(content.last().is_some_and(|byte| *byte != b'\n'))
}

/// Puts `new` in as lines of its own after line `line`.
fn insert_after(content: &[u8], line: usize, new: &str) -> Vec<u8> {
    let at = match line {
        0 => 0,
        _ => content
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 1)
            .map_or(content.len(), |(at, _)| at + 1),
    };
    let (head, tail) = content.split_at(at);
    let before: &[u8] = if head.is_empty() || head.ends_with(b"\n") { b"" } else { b"\n" };
    let after: &[u8] =
        if new.ends_with('\n') || (tail.is_empty() && !head.ends_with(b"\n")) { b"" } else { b"\n" };
    [head, before, new.as_bytes(), after, tail].concat()
}

/// The lines around an edit that begins after `line` lines and spans `more` further line breaks.
fn snippet(content: &[u8], line: usize, more: usize) -> String {
    let text = String::from_utf8_lossy(content);
    let first = line.saturating_sub(CONTEXT);
    let lines: Vec<&str> = text.split('\n').skip(first).take(line - first + more + 1 + CONTEXT).collect();
    numbered(&lines.join("\n"), first + 1)
}

/// Lines with their numbers, as `cat -n` shows them.
fn numbered(text: &str, first: usize) -> String {
    let lines = text.split('\n').enumerate().map(|(at, line)| format!("{:6} {line}", at + first));
    lines.collect::<Vec<_>>().join("\n")
}

fn clipped(content: String) -> (String, u64) {
    if content.len() <= MAX_BYTES {
        return (content, 0);
    }
    let note =
        "<response clipped>: only part of the output is shown; grep for what you need and view a range";
    let end = content.floor_char_boundary(MAX_BYTES);
    let dropped = content.len() - end;
    let (head, _) = clip(content[..end].to_owned(), MAX_BYTES);
    (format!("{head}\n{note}"), dropped as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_keeps_every_other_byte() {
        let content = b"a\tb\r\n\xff\xfec\nend";
        let (after, at) = replace_once(content, b"c\n", b"d\n").unwrap();
        assert_eq!((after.as_slice(), at), (b"a\tb\r\n\xff\xfed\nend".as_slice(), 7));
        assert_eq!(replace_once(b"aaa", b"aa", b"").unwrap_err(), 2);
        assert_eq!(replace_once(b"abc", b"x", b"").unwrap_err(), 0);
    }

    #[test]
    fn inserting_makes_lines_of_its_own() {
        let cases: &[(&str, usize, &str, &str)] = &[
            ("a\nb\n", 0, "x", "x\na\nb\n"),
            ("a\nb\n", 1, "x\n", "a\nx\nb\n"),
            ("a\nb\n", 2, "x", "a\nb\nx\n"),
            ("a\nb", 2, "x", "a\nb\nx"),
            ("", 0, "x", "x"),
        ];
        for (content, line, new, wanted) in cases {
            let got = insert_after(content.as_bytes(), *line, new);
            assert_eq!(String::from_utf8(got).unwrap(), *wanted, "{content:?} {line} {new:?}");
        }
        assert_eq!((line_count(b""), line_count(b"a"), line_count(b"a\nb\n")), (0, 1, 2));
    }

    #[test]
    fn ranges_are_checked_against_the_file() {
        let range = |json: &str| {
            let arguments: Arguments = serde_json::from_str(json).unwrap();
            view_range(&arguments, 10)
        };
        assert_eq!(range("{}"), Ok(None));
        assert_eq!(range(r#"{"view_range": [2, 3]}"#), Ok(Some((2, 3))));
        assert_eq!(range(r#"{"view_range": "[2, -1]"}"#), Ok(Some((2, 10))));
        for wrong in [
            r#"{"view_range": [0, 3]}"#,
            r#"{"view_range": [4, 3]}"#,
            r#"{"view_range": [1, 11]}"#,
            r#"{"view_range": "x"}"#,
        ] {
            assert!(range(wrong).unwrap_err().contains("<= 10"), "{wrong}");
        }
    }

    #[test]
    fn long_python_files_are_condensed_unless_asked_otherwise() {
        let body = "    x = 1\n".repeat(150);
        let file = format!("def f():\n{body}\n");
        let show = |json: &str| view_text("/r/a.py", &file, &serde_json::from_str(json).unwrap()).unwrap();
        assert!(show("{}").contains("condensed"));
        assert!(!show(r#"{"concise": false}"#).contains("condensed"));
        assert!(!show(r#"{"view_range": [1, 5]}"#).contains("condensed"));
        assert!(show(r#"{"view_range": [2, 3]}"#).ends_with("     2     x = 1\n     3     x = 1"));
        let broken =
            view_text("/r/a.py", "def f(:\n", &serde_json::from_str(r#"{"concise": true}"#).unwrap());
        assert!(broken.unwrap_err().contains("syntax error near line 1"));
    }

    #[test]
    fn snippets_show_four_lines_around() {
        let content: String = (1..=20).map(|line| format!("l{line}\n")).collect();
        let shown = snippet(content.as_bytes(), 9, 1);
        assert!(shown.starts_with("     6 l6") && shown.ends_with("    15 l15"), "{shown}");
        assert!(clipped("x".repeat(20_000)).0.contains("<response clipped>"));
    }
}
