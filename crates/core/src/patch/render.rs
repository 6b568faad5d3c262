//! Writing patches in git's format.

use bytes::Bytes;
use imara_diff::{Algorithm, Diff, InternedInput};

use super::base85;
use super::binary::deflate;
use super::quote::quote;
use super::tree::{BlobId, FileMode, blob_id};

/// Lines around a change.
const CONTEXT: u32 = 3;
/// Git calls a content binary if one of its first bytes, this many, is NUL.
const BINARY_PROBE: usize = 8000;
/// Longest heading after a hunk's ranges, in bytes.
const LONGEST_HEADING: usize = 80;

/// A file that changes: its mode and content before and after, `None` where there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Path from the root of the tree.
    pub path: Vec<u8>,
    /// Before.
    pub old: Option<(FileMode, Bytes)>,
    /// After.
    pub new: Option<(FileMode, Bytes)>,
}

/// A patch that has been written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The patch; empty if nothing changed.
    pub bytes: Vec<u8>,
    /// Files touched.
    pub files: u32,
    /// Text lines added.
    pub added: u64,
    /// Text lines removed.
    pub removed: u64,
}

/// Writes a patch that turns every `old` into its `new`, files sorted by path; unchanged ones are left out.
///
/// A renamed file is a deletion and a creation. A file that becomes a link, or the other way round, is both
/// under one path, as git writes it.
pub fn render(changes: &[FileChange]) -> Rendered {
    let mut sorted: Vec<&FileChange> = changes.iter().filter(|change| change.old != change.new).collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut rendered = Rendered::default();
    for change in sorted {
        rendered.files += 1;
        let (old, new) = (side(&change.old), side(&change.new));
        match (old, new) {
            (Some(before), Some(after)) if !before.mode.same_type(after.mode) => {
                rendered.file(&change.path, old, None);
                rendered.file(&change.path, None, new);
            }
            _ => rendered.file(&change.path, old, new),
        }
    }
    rendered
}

#[derive(Clone, Copy)]
struct Side<'a> {
    mode: FileMode,
    content: &'a [u8],
}

fn side(file: &Option<(FileMode, Bytes)>) -> Option<Side<'_>> {
    file.as_ref().map(|(mode, content)| Side { mode: *mode, content })
}

impl Rendered {
    fn file(&mut self, path: &[u8], old: Option<Side<'_>>, new: Option<Side<'_>>) {
        self.line(&[b"diff --git ", &quote("a/", path), b" ", &quote("b/", path)]);
        self.modes(old, new);
        let (before, after) = (content(old), content(new));
        if before == after && old.is_some() && new.is_some() {
            return;
        }
        self.index(old, new);
        if is_binary(before) || is_binary(after) {
            self.binary(before, after);
        } else if before != after {
            self.names(path, old.is_some(), new.is_some());
            self.hunks(before, after);
        }
    }

    fn modes(&mut self, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        match (old, new) {
            (None, Some(new)) => self.line(&[b"new file mode ", new.mode.as_str().as_bytes()]),
            (Some(old), None) => self.line(&[b"deleted file mode ", old.mode.as_str().as_bytes()]),
            (Some(old), Some(new)) if old.mode != new.mode => {
                self.line(&[b"old mode ", old.mode.as_str().as_bytes()]);
                self.line(&[b"new mode ", new.mode.as_str().as_bytes()]);
            }
            _ => {}
        }
    }

    fn index(&mut self, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        let id = |side: Option<Side<'_>>| side.map_or(BlobId::NULL, |side| blob_id(side.content));
        let ids = format!("index {}..{}", id(old), id(new));
        match (old, new) {
            (Some(old), Some(new)) if old.mode == new.mode => {
                self.line(&[ids.as_bytes(), b" ", old.mode.as_str().as_bytes()]);
            }
            _ => self.line(&[ids.as_bytes()]),
        }
    }

    /// A name with a blank is ended by a tab, or tools would read on.
    fn names(&mut self, path: &[u8], has_old: bool, has_new: bool) {
        let name = |prefix, exists| if exists { quote(prefix, path) } else { b"/dev/null".to_vec() };
        for (marker, name) in [(b"--- ", name("a/", has_old)), (b"+++ ", name("b/", has_new))] {
            let end: &[u8] = if name.contains(&b' ') { b"\t" } else { b"" };
            self.line(&[marker, &name, end]);
        }
    }

    /// Both directions, so that the patch can also be taken back.
    fn binary(&mut self, old: &[u8], new: &[u8]) {
        self.line(&[b"GIT binary patch"]);
        for content in [new, old] {
            self.line(&[format!("literal {}", content.len()).as_bytes()]);
            base85::encode(&deflate(content), &mut self.bytes);
            self.line(&[]);
        }
    }

    fn hunks(&mut self, old: &[u8], new: &[u8]) {
        let input = InternedInput::new(old, new);
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        let changes: Vec<_> = diff.hunks().collect();
        let mut headings = Headings::default();
        for group in changes.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT) {
            self.hunk(&input, group, &mut headings);
        }
    }

    fn hunk<'a>(
        &mut self,
        input: &InternedInput<&'a [u8]>,
        changes: &[imara_diff::Hunk],
        headings: &mut Headings<'a>,
    ) {
        let (first, last) = (&changes[0], &changes[changes.len() - 1]);
        let lead = first.before.start.min(CONTEXT);
        let old_end = (last.before.end + CONTEXT).min(input.before.len() as u32);
        let tail = old_end - last.before.end;
        let old = first.before.start - lead..old_end;
        let new = first.after.start - lead..last.after.end + tail;
        let ranges = format!("@@ -{} +{} @@", range(&old), range(&new));
        match headings.above(input, old.start) {
            Some(heading) => self.line(&[ranges.as_bytes(), b" ", heading]),
            None => self.line(&[ranges.as_bytes()]),
        }
        let before = |at: u32| input.interner[input.before[at as usize]];
        let after = |at: u32| input.interner[input.after[at as usize]];
        let mut at = old.start;
        for change in changes {
            (at..change.before.start).for_each(|line| self.text_line(b' ', before(line)));
            change.before.clone().for_each(|line| self.text_line(b'-', before(line)));
            change.after.clone().for_each(|line| self.text_line(b'+', after(line)));
            self.removed += u64::from(change.before.end - change.before.start);
            self.added += u64::from(change.after.end - change.after.start);
            at = change.before.end;
        }
        (at..old_end).for_each(|line| self.text_line(b' ', before(line)));
    }

    fn text_line(&mut self, marker: u8, text: &[u8]) {
        self.bytes.push(marker);
        self.bytes.extend_from_slice(text);
        if !text.ends_with(b"\n") {
            self.bytes.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }

    fn line(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.push(b'\n');
    }
}

fn content(side: Option<Side<'_>>) -> &[u8] {
    side.map_or(b"", |side| side.content)
}

fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(BINARY_PROBE)].contains(&0)
}

/// A hunk's range in lines from 1; an empty one names the line before it.
fn range(lines: &std::ops::Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        length => format!("{},{length}", lines.start + 1),
    }
}

/// The lines that tell a reader where a hunk is: each the last one before it that starts like a definition.
#[derive(Default)]
struct Headings<'a> {
    /// Lines before this one have been looked at, so that many hunks cost one pass.
    searched: u32,
    last: Option<&'a [u8]>,
}

impl<'a> Headings<'a> {
    fn above(&mut self, input: &InternedInput<&'a [u8]>, start: u32) -> Option<&'a [u8]> {
        let lines = &input.before[self.searched as usize..start as usize];
        let mut upwards = lines.iter().rev().map(|&token| input.interner[token]);
        self.searched = start;
        self.last = upwards.find(|line| starts_a_name(line)).map(shortened).or(self.last);
        self.last
    }
}

fn starts_a_name(line: &[u8]) -> bool {
    line.first().is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$')
}

/// Cuts a heading, but no character in two, so that a text stays valid UTF-8.
fn shortened(line: &[u8]) -> &[u8] {
    let cut = &line[..line.len().min(LONGEST_HEADING)];
    let whole = match std::str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() => &cut[..error.valid_up_to()],
        _ => cut,
    };
    whole.trim_ascii_end()
}
