//! File headers: git's extended ones and the plain `---`/`+++` pair.

use super::model::{ChangeKind, IndexLine};
use super::quote::unquote;
use super::tree::FileMode;

/// A file header while its lines are read.
#[derive(Default)]
pub(crate) struct Header {
    /// The name that both sides of `diff --git` agree on.
    common: Option<Vec<u8>>,
    old_path: Option<Vec<u8>>,
    new_path: Option<Vec<u8>>,
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    kind: Option<ChangeKind>,
    index: Option<IndexLine>,
}

/// A file header as a whole.
pub(crate) struct Described {
    pub(crate) kind: ChangeKind,
    pub(crate) old_path: Option<Vec<u8>>,
    pub(crate) new_path: Option<Vec<u8>>,
    pub(crate) old_mode: Option<FileMode>,
    pub(crate) new_mode: Option<FileMode>,
    pub(crate) index: Option<IndexLine>,
}

impl Described {
    /// Whether there is something to do even without hunks.
    pub(crate) fn changes_metadata(&self) -> bool {
        let mode_changes = self.new_mode.is_some() && self.old_mode != self.new_mode;
        mode_changes || !matches!(self.kind, ChangeKind::Modify | ChangeKind::Undeclared)
    }
}

/// Whether the header went on with this line.
#[derive(PartialEq, Eq)]
pub(crate) enum Progress {
    Taken,
    Ended,
}

impl Header {
    /// Starts from what follows `diff --git `; `strip` is how many leading path components to drop.
    pub(crate) fn new(names: &[u8], strip: usize) -> Self {
        Self { common: common_name(names, strip), ..Self::default() }
    }

    /// Takes one more line of the extended header, without its newline.
    pub(crate) fn take(&mut self, line: &[u8], strip: usize) -> Result<Progress, String> {
        let keyword = KEYWORDS.iter().find_map(|(text, keyword)| Some((keyword, line.strip_prefix(*text)?)));
        let Some((keyword, rest)) = keyword else {
            return Ok(Progress::Ended);
        };
        match keyword {
            Keyword::OldFile => self.take_old_name(rest, strip)?,
            Keyword::NewFile => self.take_new_name(rest, strip)?,
            Keyword::OldMode => self.old_mode = Some(mode(rest)?),
            Keyword::NewMode => self.new_mode = Some(mode(rest)?),
            Keyword::Deleted => {
                self.kind = Some(ChangeKind::Delete);
                self.old_mode = Some(mode(rest)?);
                self.old_path.clone_from(&self.common);
            }
            Keyword::Created => {
                self.kind = Some(ChangeKind::Create);
                self.new_mode = Some(mode(rest)?);
                self.new_path.clone_from(&self.common);
            }
            Keyword::From(kind) => {
                self.kind = Some(*kind);
                self.old_path = Some(whole_name(rest, strip.saturating_sub(1))?);
            }
            Keyword::To(kind) => {
                self.kind = Some(*kind);
                self.new_path = Some(whole_name(rest, strip.saturating_sub(1))?);
            }
            Keyword::Similarity => {}
            Keyword::Index => self.take_index(rest)?,
        }
        Ok(Progress::Taken)
    }

    fn take_old_name(&mut self, rest: &[u8], strip: usize) -> Result<(), String> {
        if is_dev_null(rest) {
            return self.take_dev_null(ChangeKind::Create);
        }
        if self.kind == Some(ChangeKind::Create) {
            return Err("a new file must have /dev/null as its old name".to_owned());
        }
        agree(&mut self.old_path, file_name(rest, strip)?)
    }

    fn take_new_name(&mut self, rest: &[u8], strip: usize) -> Result<(), String> {
        if is_dev_null(rest) {
            return self.take_dev_null(ChangeKind::Delete);
        }
        if self.kind == Some(ChangeKind::Delete) {
            return Err("a deleted file must have /dev/null as its new name".to_owned());
        }
        agree(&mut self.new_path, file_name(rest, strip)?)
    }

    /// `/dev/null` says by itself that the file is new or deleted; hand-made patches leave the mode line out.
    fn take_dev_null(&mut self, kind: ChangeKind) -> Result<(), String> {
        if self.kind.is_some_and(|known| known != kind) {
            return Err("/dev/null contradicts the lines before".to_owned());
        }
        self.kind = Some(kind);
        Ok(())
    }

    fn take_index(&mut self, rest: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(rest);
        let (ids, mode_digits) = text.split_once(' ').unwrap_or((&text, ""));
        let Some((old, new)) = ids.split_once("..").filter(|(old, new)| is_id(old) && is_id(new)) else {
            // Git does not take a malformed index line for an error: the ids are only not known.
            return Ok(());
        };
        self.index = Some(IndexLine { old: old.to_owned(), new: new.to_owned() });
        if !mode_digits.is_empty() {
            self.old_mode = Some(mode(mode_digits.as_bytes())?);
        }
        Ok(())
    }

    /// Puts the lines together.
    pub(crate) fn finish(mut self) -> Result<Described, String> {
        if self.old_path.is_none() && self.new_path.is_none() {
            let common = self.common.take().ok_or("the two names differ and no line says which is which")?;
            self.old_path = Some(common.clone());
            self.new_path = Some(common);
        }
        let kind = self.kind.unwrap_or(ChangeKind::Modify);
        let old_path = self.old_path.filter(|_| kind != ChangeKind::Create);
        let new_path = self.new_path.filter(|_| kind != ChangeKind::Delete);
        let lacks_old = old_path.is_none() && kind != ChangeKind::Create;
        let lacks_new = new_path.is_none() && kind != ChangeKind::Delete;
        if lacks_old || lacks_new {
            return Err(format!("the {} name is missing", if lacks_old { "old" } else { "new" }));
        }
        let Self { old_mode, new_mode, index, .. } = self;
        Ok(Described { kind, old_path, new_path, old_mode, new_mode, index })
    }
}

enum Keyword {
    OldFile,
    NewFile,
    OldMode,
    NewMode,
    Deleted,
    Created,
    From(ChangeKind),
    To(ChangeKind),
    Similarity,
    Index,
}

const KEYWORDS: [(&[u8], Keyword); 15] = [
    (b"--- ", Keyword::OldFile),
    (b"+++ ", Keyword::NewFile),
    (b"old mode ", Keyword::OldMode),
    (b"new mode ", Keyword::NewMode),
    (b"deleted file mode ", Keyword::Deleted),
    (b"new file mode ", Keyword::Created),
    (b"copy from ", Keyword::From(ChangeKind::Copy)),
    (b"copy to ", Keyword::To(ChangeKind::Copy)),
    (b"rename from ", Keyword::From(ChangeKind::Rename)),
    (b"rename to ", Keyword::To(ChangeKind::Rename)),
    (b"rename old ", Keyword::From(ChangeKind::Rename)),
    (b"rename new ", Keyword::To(ChangeKind::Rename)),
    (b"similarity index ", Keyword::Similarity),
    (b"dissimilarity index ", Keyword::Similarity),
    (b"index ", Keyword::Index),
];

/// Reads a plain header: what follows `--- ` and `+++ `.
pub(crate) fn plain(old: &[u8], new: &[u8], strip: usize) -> Result<Described, String> {
    let (is_new, is_deleted) = (is_absent(old), is_absent(new));
    let old_name = if is_dev_null(old) { None } else { Some(file_name(old, strip)?) };
    let new_name = if is_dev_null(new) { None } else { Some(file_name(new, strip)?) };
    let name = shorter(old_name, new_name).ok_or("both names are /dev/null")?;
    let kind = match (is_new, is_deleted) {
        (true, _) => ChangeKind::Create,
        (false, true) => ChangeKind::Delete,
        (false, false) => ChangeKind::Undeclared,
    };
    Ok(Described {
        kind,
        old_path: Some(name.clone()).filter(|_| kind != ChangeKind::Create),
        new_path: Some(name).filter(|_| kind != ChangeKind::Delete),
        old_mode: None,
        new_mode: None,
        index: None,
    })
}

/// How many components a plain header's names have to lose: none if they have only one, else the `a/`.
/// `None` where the names do not tell.
pub(crate) fn guess_strip(old: &[u8], new: &[u8]) -> Option<usize> {
    let guess = |name: &[u8]| {
        let flat = !is_dev_null(name) && file_name(name, 0).is_ok_and(|name| !name.contains(&b'/'));
        flat.then_some(0)
    };
    match (guess(old), guess(new)) {
        (Some(strip), Some(_)) => Some(strip),
        (Some(strip), None) if is_dev_null(new) => Some(strip),
        (None, Some(strip)) if is_dev_null(old) => Some(strip),
        _ => None,
    }
}

/// Of `file.orig` and `file`, the name is `file`; else the new name counts.
fn shorter(old: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match (old, new) {
        (Some(old), Some(new)) => Some(if new.starts_with(&old) { old } else { new }),
        (old, new) => old.or(new),
    }
}

fn is_dev_null(name: &[u8]) -> bool {
    name.strip_prefix(b"/dev/null").is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Whether a plain header's line stands for no file: `/dev/null`, or a time stamp at the epoch as diff writes it.
fn is_absent(line: &[u8]) -> bool {
    let stamp = || {
        let tab = line.iter().position(|&byte| byte == b'\t')?;
        epoch_minutes(std::str::from_utf8(&line[tab + 1..]).ok()?.trim_end())
    };
    is_dev_null(line) || stamp() == Some(0)
}

/// Minutes between the epoch and a stamp like `1970-01-01 01:00:00.000000000 +0100`; `None` for other days.
fn epoch_minutes(stamp: &str) -> Option<i64> {
    let mut parts = stamp.split(' ');
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    let day = match date {
        "1969-12-31" => -24 * 60,
        "1970-01-01" => 0,
        _ => return None,
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let (hour, rest) = clock.split_once(':')?;
    let minute = rest.strip_suffix(":00")?;
    if fraction.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let (sign, offset) =
        if let Some(east) = zone.strip_prefix('+') { (-1, east) } else { (1, zone.strip_prefix('-')?) };
    let offset: i64 = offset.replace(':', "").parse().ok()?;
    let local = hour.parse::<i64>().ok()? * 60 + minute.parse::<i64>().ok()?;
    Some(day + local + sign * (offset / 100 * 60 + offset % 100))
}

fn mode(digits: &[u8]) -> Result<FileMode, String> {
    let digits = digits.trim_ascii();
    FileMode::from_octal(digits)
        .ok_or_else(|| format!("mode `{}` is neither a file's nor a link's", String::from_utf8_lossy(digits)))
}

fn is_id(text: &str) -> bool {
    (4..=40).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn agree(known: &mut Option<Vec<u8>>, name: Vec<u8>) -> Result<(), String> {
    match known {
        Some(known) if *known != name => Err(format!(
            "the names `{}` and `{}` contradict each other",
            String::from_utf8_lossy(known),
            String::from_utf8_lossy(&name)
        )),
        _ => {
            *known = Some(name);
            Ok(())
        }
    }
}

/// The name of a `---` or `+++` line: quoted, or up to the first tab.
fn file_name(text: &[u8], strip: usize) -> Result<Vec<u8>, String> {
    let end = text.iter().position(|&byte| byte == b'\t').unwrap_or(text.len());
    match unquote(text) {
        Some((name, _)) => stripped(&name, strip),
        None => stripped(&text[..end], strip),
    }
}

/// The name of a line that holds nothing else.
fn whole_name(text: &[u8], strip: usize) -> Result<Vec<u8>, String> {
    match unquote(text) {
        Some((name, _)) => stripped(&name, strip),
        None => stripped(text, strip),
    }
}

fn stripped(name: &[u8], strip: usize) -> Result<Vec<u8>, String> {
    let shortened = strip_components(name, strip).filter(|name| !name.is_empty());
    shortened.map(<[u8]>::to_vec).ok_or_else(|| {
        format!("the name `{}` has no component left after dropping {strip}", String::from_utf8_lossy(name))
    })
}

fn strip_components(name: &[u8], strip: usize) -> Option<&[u8]> {
    (0..strip).try_fold(name, |name, _| {
        let slash = name.iter().position(|&byte| byte == b'/')?;
        Some(&name[slash + 1..])
    })
}

/// The name in `a/name b/name`, where both sides agree. Unquoted names may hold blanks, so each blank is tried.
fn common_name(names: &[u8], strip: usize) -> Option<Vec<u8>> {
    if let Some((first, rest)) = unquote(names) {
        let second = rest.strip_prefix(b" ")?;
        let second = unquote(second).map_or_else(|| second.to_vec(), |(name, _)| name);
        return same_name(&first, &second, strip);
    }
    let blanks = (0..names.len()).filter(|&at| matches!(names[at], b' ' | b'\t'));
    blanks.into_iter().find_map(|at| {
        let second = &names[at + 1..];
        let unquoted = unquote(second).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name);
        same_name(&names[..at], unquoted.as_deref().unwrap_or(second), strip)
    })
}

fn same_name(first: &[u8], second: &[u8], strip: usize) -> Option<Vec<u8>> {
    let (first, second) = (strip_components(first, strip)?, strip_components(second, strip)?);
    (first == second && !first.is_empty()).then(|| first.to_vec())
}
