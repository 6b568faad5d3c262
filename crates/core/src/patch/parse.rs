//! Reading patches: git's, and plain unified diffs, as people, datasets and models write them.

use bytes::Bytes;

use super::base85;
use super::binary::{BinaryHunk, Method};
use super::error::PatchError;
use super::header::{self, Described, Header, Progress};
use super::model::{Body, ChangeKind, FilePatch, Hunk, HunkLine, LineKind, LineRange, Patch};

/// Reads a patch. Text before, between and after the files is skipped; a blank text is a patch of nothing.
///
/// It takes what `git apply` takes, with its rules for names (one leading component is dropped unless plain
/// names have none), and also a last line without newline, which datasets that trim their patches have.
///
/// # Errors
/// The text holds no patch, or a corrupt one.
pub fn parse(text: &[u8]) -> Result<Patch, PatchError> {
    let mut parser = Parser { lines: Lines::new(text), strip: 1 };
    let mut files = Vec::new();
    while let Some(file) = parser.next_file()? {
        files.push(file);
    }
    if files.is_empty() && !text.trim_ascii().is_empty() {
        return Err(PatchError::NoHeader);
    }
    Ok(Patch { files })
}

/// The lines of the text, and where we are.
struct Lines {
    rest: Bytes,
    /// Number of the next line, from 1.
    number: usize,
}

impl Lines {
    fn new(text: &[u8]) -> Self {
        Self { rest: Bytes::copy_from_slice(text), number: 1 }
    }

    fn length(text: &[u8]) -> usize {
        text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1)
    }

    /// The next line without its newline.
    fn peek(&self) -> Option<&[u8]> {
        let line = &self.rest[..Self::length(&self.rest)];
        (!line.is_empty()).then(|| line.strip_suffix(b"\n").unwrap_or(line))
    }

    /// The line after the next one, and the one after that.
    fn peek_two_more(&self) -> (&[u8], &[u8]) {
        let second = &self.rest[Self::length(&self.rest)..];
        let length = Self::length(second);
        let third = &second[length..];
        (second[..length].trim_ascii_end(), &third[..Self::length(third)])
    }

    /// Takes the next line with its newline.
    fn next(&mut self) -> Option<Bytes> {
        let line = self.rest.split_to(Self::length(&self.rest));
        self.number += usize::from(!line.is_empty());
        (!line.is_empty()).then_some(line)
    }
}

struct Parser {
    lines: Lines,
    /// Leading components that names lose. A plain diff of names without any changes it for what follows.
    strip: usize,
}

impl Parser {
    fn next_file(&mut self) -> Result<Option<FilePatch>, PatchError> {
        let line = self.lines.number;
        let Some(described) = self.next_header()? else {
            return Ok(None);
        };
        check_paths(line, &described)?;
        let name = display_name(&described);
        let body = self.body(&name)?;
        if matches!(&body, Body::Text(hunks) if hunks.is_empty()) && !described.changes_metadata() {
            return Err(self.header_error("nothing follows it".to_owned()));
        }
        file_patch(described, body).map(Some).map_err(|reason| self.hunk_error(&name, 1, reason))
    }

    /// Skips to the next file header and reads it.
    fn next_header(&mut self) -> Result<Option<Described>, PatchError> {
        while let Some(line) = self.lines.peek() {
            if let Some(names) = line.strip_prefix(b"diff --git ") {
                let header = Header::new(names, self.strip);
                return self.git_header(header).map(Some);
            }
            if self.is_plain_header() {
                return self.plain_header().map(Some);
            }
            if line.starts_with(b"@@ -") && hunk_ranges(line).is_some() {
                return Err(self.header_error("a hunk without a file header".to_owned()));
            }
            self.lines.next();
        }
        Ok(None)
    }

    fn git_header(&mut self, mut header: Header) -> Result<Described, PatchError> {
        self.lines.next();
        while let Some(line) = self.lines.peek() {
            match header.take(line, self.strip) {
                Ok(Progress::Taken) => self.lines.next(),
                Ok(Progress::Ended) => break,
                Err(reason) => return Err(self.header_error(reason)),
            };
        }
        header.finish().map_err(|reason| self.header_error(reason))
    }

    fn is_plain_header(&self) -> bool {
        let (second, third) = self.lines.peek_two_more();
        self.lines.peek().is_some_and(|line| line.starts_with(b"--- "))
            && second.starts_with(b"+++ ")
            && third.starts_with(b"@@ -")
    }

    fn plain_header(&mut self) -> Result<Described, PatchError> {
        let names = [self.lines.next(), self.lines.next()].map(|line| {
            let line = line.unwrap_or_default();
            let length = line.strip_suffix(b"\n").unwrap_or(&line).len();
            line.slice(4..length.max(4))
        });
        self.strip = header::guess_strip(&names[0], &names[1]).unwrap_or(self.strip);
        header::plain(&names[0], &names[1], self.strip).map_err(|reason| self.header_error(reason))
    }

    fn body(&mut self, file: &str) -> Result<Body, PatchError> {
        match self.lines.peek() {
            Some(b"GIT binary patch") => {
                self.lines.next();
                self.binary(file).map(|data| Body::Binary(Box::new(data)))
            }
            Some(line) if is_binary_note(line) => {
                self.lines.next();
                Ok(Body::BinaryWithoutData)
            }
            _ => self.hunks(file).map(Body::Text),
        }
    }

    fn hunks(&mut self, file: &str) -> Result<Vec<Hunk>, PatchError> {
        let mut hunks = Vec::new();
        while self.lines.peek().is_some_and(|line| line.starts_with(b"@@ -")) {
            let number = hunks.len() + 1;
            hunks.push(self.hunk().map_err(|reason| self.hunk_error(file, number, reason))?);
        }
        Ok(hunks)
    }

    fn hunk(&mut self) -> Result<Hunk, &'static str> {
        let header = self.lines.next().unwrap_or_default();
        let (old, new) = hunk_ranges(&header).ok_or("the hunk header is malformed")?;
        let mut hunk = Hunk { old, new, lines: Vec::new() };
        let (mut old_left, mut new_left) = (old.length, new.length);
        while old_left > 0 || new_left > 0 {
            let line = self.lines.next().ok_or("it ends before the lines that its header announces")?;
            let Some((kind, text)) = hunk_line(&line)? else {
                drop_newline(hunk.lines.last_mut());
                continue;
            };
            let left = |left: u64, counts: bool| left.checked_sub(u64::from(counts));
            let too_many = "it has more lines than its header announces";
            old_left = left(old_left, kind != LineKind::Added).ok_or(too_many)?;
            new_left = left(new_left, kind != LineKind::Removed).ok_or(too_many)?;
            hunk.lines.push(HunkLine { kind, text });
        }
        if self.lines.peek().is_some_and(is_no_newline_note) {
            self.lines.next();
            drop_newline(hunk.lines.last_mut());
        }
        let changes = hunk.lines.iter().any(|line| line.kind != LineKind::Context);
        if changes { Ok(hunk) } else { Err("it changes nothing") }
    }

    /// Reads the forward data and skips the backward data after it.
    fn binary(&mut self, file: &str) -> Result<BinaryHunk, PatchError> {
        let forward =
            self.binary_hunk(file)?.ok_or_else(|| self.binary_error(file, "the data is missing"))?;
        self.binary_hunk(file)?;
        Ok(forward)
    }

    fn binary_hunk(&mut self, file: &str) -> Result<Option<BinaryHunk>, PatchError> {
        let Some((method, size)) = self.lines.peek().and_then(binary_header) else {
            return Ok(None);
        };
        self.lines.next();
        let mut deflated = Vec::new();
        while let Some(line) = self.lines.peek().filter(|line| !line.is_empty()) {
            let decoded = base85::decode_line(line, &mut deflated);
            decoded.ok_or_else(|| self.binary_error(file, "a line is not base 85"))?;
            self.lines.next();
        }
        self.lines.next();
        Ok(Some(BinaryHunk { method, size, deflated }))
    }

    fn header_error(&self, reason: String) -> PatchError {
        PatchError::Header { line: self.lines.number, reason }
    }

    fn hunk_error(&self, file: &str, hunk: usize, reason: &'static str) -> PatchError {
        PatchError::Hunk { line: self.lines.number.saturating_sub(1), file: file.to_owned(), hunk, reason }
    }

    fn binary_error(&self, file: &str, reason: &'static str) -> PatchError {
        PatchError::Binary { line: self.lines.number, file: file.to_owned(), reason }
    }
}

fn file_patch(described: Described, body: Body) -> Result<FilePatch, &'static str> {
    let Described { kind, old_path, new_path, old_mode, new_mode, index } = described;
    let file = FilePatch { kind, old_path, new_path, old_mode, new_mode, index, body };
    let expects = |file: &FilePatch| file.hunks().iter().any(|hunk| hunk.old.length > 0);
    let leaves = |file: &FilePatch| file.hunks().iter().any(|hunk| hunk.new.length > 0);
    match kind {
        ChangeKind::Create if expects(&file) => Err("a new file cannot have old lines"),
        ChangeKind::Delete if leaves(&file) => Err("a deleted file cannot have new lines"),
        _ => Ok(file),
    }
}

/// Reads `@@ -start,length +start,length @@`; an absent length is 1.
fn hunk_ranges(line: &[u8]) -> Option<(LineRange, LineRange)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let (old, rest) = range(rest)?;
    let (new, rest) = range(rest.strip_prefix(b" +")?)?;
    rest.starts_with(b" @@").then_some((old, new))
}

fn range(text: &[u8]) -> Option<(LineRange, &[u8])> {
    let (start, rest) = number(text)?;
    match rest.strip_prefix(b",") {
        Some(rest) => number(rest).map(|(length, rest)| (LineRange { start, length }, rest)),
        None => Some((LineRange { start, length: 1 }, rest)),
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    Some((value, &text[digits..]))
}

/// Splits a line of a hunk; `None` for the note that the line before has no newline.
fn hunk_line(line: &Bytes) -> Result<Option<(LineKind, Bytes)>, &'static str> {
    let kind = match line[0] {
        // Some tools trim the blank of an empty context line.
        b'\n' => return Ok(Some((LineKind::Context, line.clone()))),
        b' ' => LineKind::Context,
        b'+' => LineKind::Added,
        b'-' => LineKind::Removed,
        b'\\' if is_no_newline_note(line) => return Ok(None),
        _ => return Err("a line starts neither with a blank, `+`, `-` nor `\\`"),
    };
    let text = line.slice(1..);
    // The text of the patch was trimmed: a missing newline is said by the note, not by the end of the text.
    let complete = if text.ends_with(b"\n") { text } else { [&text[..], b"\n"].concat().into() };
    Ok(Some((kind, complete)))
}

/// `\ No newline at end of file`, in whatever language diff spoke.
fn is_no_newline_note(line: &[u8]) -> bool {
    line.starts_with(b"\\ ") && line.len() > 10
}

fn drop_newline(line: Option<&mut HunkLine>) {
    if let Some(line) = line
        && line.text.ends_with(b"\n")
    {
        line.text.truncate(line.text.len() - 1);
    }
}

fn is_binary_note(line: &[u8]) -> bool {
    (line.starts_with(b"Binary files ") || line.starts_with(b"Files ")) && line.ends_with(b" differ")
}

fn binary_header(line: &[u8]) -> Option<(Method, u64)> {
    let (method, size) = match (line.strip_prefix(b"literal "), line.strip_prefix(b"delta ")) {
        (Some(size), _) => (Method::Literal, size),
        (None, Some(size)) => (Method::Delta, size),
        (None, None) => return None,
    };
    let (size, rest) = number(size)?;
    rest.is_empty().then_some((method, size))
}

fn display_name(described: &Described) -> String {
    let path = described.new_path.as_ref().or(described.old_path.as_ref());
    path.map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default()
}

fn check_paths(line: usize, described: &Described) -> Result<(), PatchError> {
    let paths = [&described.old_path, &described.new_path].into_iter().flatten();
    match paths.into_iter().find(|path| !is_within_tree(path)) {
        Some(path) => Err(PatchError::UnsafePath { line, path: String::from_utf8_lossy(path).into_owned() }),
        None => Ok(()),
    }
}

fn is_within_tree(path: &[u8]) -> bool {
    let allowed = |part: &[u8]| {
        !matches!(part, b"" | b"." | b"..") && !part.eq_ignore_ascii_case(b".git") && !part.contains(&0)
    };
    path.split(|&byte| byte == b'/').all(allowed)
}
