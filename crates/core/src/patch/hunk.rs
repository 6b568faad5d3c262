//! Placing hunks: the search of `git apply` without fuzz.
//!
//! A hunk may have moved. The search starts where its header says and tries one line further, one line back,
//! two lines further and so on. A hunk that starts at line 1 belongs to the start of the file, and one that ends
//! without context to its end. Lines that an earlier hunk placed cannot be matched again.

use bytes::Bytes;

use super::error::ApplyReason;
use super::model::Hunk;

/// A file's lines while hunks are applied to it.
struct Image<'a> {
    lines: Vec<ImageLine<'a>>,
}

#[derive(Clone, Copy)]
struct ImageLine<'a> {
    text: &'a [u8],
    placed: bool,
}

impl<'a> Image<'a> {
    fn new(content: &'a [u8]) -> Self {
        let lines = content.split_inclusive(|&byte| byte == b'\n');
        Self { lines: lines.map(|text| ImageLine { text, placed: false }).collect() }
    }

    fn into_content(self) -> Bytes {
        let size = self.lines.iter().map(|line| line.text.len()).sum();
        let mut content = Vec::with_capacity(size);
        self.lines.iter().for_each(|line| content.extend_from_slice(line.text));
        content.into()
    }

    /// Replaces the hunk's old lines by its new ones, as near as possible to where its header says.
    fn place(&mut self, hunk: &'a Hunk) -> Result<(), ApplyReason> {
        let preimage = hunk.preimage();
        let search = Search { image: self, preimage: &preimage, anchor: Anchor::of(hunk) };
        let at = search.nearest(hunk.new.start.saturating_sub(1))?;
        let postimage = hunk.postimage().into_iter().map(|text| ImageLine { text, placed: true });
        self.lines.splice(at..at + preimage.len(), postimage);
        Ok(())
    }
}

/// Applies hunks one after the other as `git apply` does. The error comes with the hunk's index.
pub(crate) fn place_as_git(content: &[u8], hunks: &[Hunk]) -> Result<Bytes, (usize, ApplyReason)> {
    let mut image = Image::new(content);
    for (number, hunk) in hunks.iter().enumerate() {
        image.place(hunk).map_err(|reason| (number, reason))?;
    }
    Ok(image.into_content())
}

/// Applies hunks only where their headers say, in one pass: our own patches may have very many. The error comes
/// with the hunk's index.
pub(crate) fn place_as_stated(content: &[u8], hunks: &[Hunk]) -> Result<Bytes, (usize, ApplyReason)> {
    let lines: Vec<&[u8]> = content.split_inclusive(|&byte| byte == b'\n').collect();
    let mut result = Vec::with_capacity(content.len());
    let mut taken = 0;
    for (number, hunk) in hunks.iter().enumerate() {
        let start = stated_position(hunk).min(lines.len());
        let kept = lines.get(taken..start).ok_or((number, ApplyReason::Overlap { line: start + 1 }))?;
        kept.iter().for_each(|line| result.extend_from_slice(line));
        taken = start;
        for expected in hunk.preimage() {
            if lines.get(taken) != Some(&&expected[..]) {
                return Err((number, mismatch(taken, lines.get(taken).copied(), expected, lines.len())));
            }
            taken += 1;
        }
        hunk.postimage().into_iter().for_each(|line| result.extend_from_slice(line));
    }
    lines[taken..].iter().for_each(|line| result.extend_from_slice(line));
    Ok(result.into())
}

/// The index of the hunk's first old line. Where there is none, the header names the line before.
fn stated_position(hunk: &Hunk) -> usize {
    let before = if hunk.old.length == 0 { hunk.old.start } else { hunk.old.start.saturating_sub(1) };
    usize::try_from(before).unwrap_or(usize::MAX)
}

/// The edges of the file that a hunk is bound to.
#[derive(Clone, Copy)]
struct Anchor {
    start: bool,
    end: bool,
}

impl Anchor {
    fn of(hunk: &Hunk) -> Self {
        Self { start: hunk.old.start <= 1, end: hunk.ends_changed() }
    }
}

struct Search<'s, 'a> {
    image: &'s Image<'a>,
    preimage: &'s [&'s Bytes],
    anchor: Anchor,
}

impl Search<'_, '_> {
    fn nearest(&self, stated: u64) -> Result<usize, ApplyReason> {
        let lines = self.image.lines.len();
        let first = match self.anchor {
            Anchor { start: true, .. } => 0,
            Anchor { end: true, .. } => lines.saturating_sub(self.preimage.len()),
            _ => usize::try_from(stated).unwrap_or(usize::MAX).min(lines),
        };
        let mut candidates = outwards(first, lines);
        let found = candidates.find(|&at| self.is_allowed(at) && self.fits(at));
        found.ok_or_else(|| self.why_not(outwards(first, lines)))
    }

    fn is_allowed(&self, at: usize) -> bool {
        (!self.anchor.start || at == 0)
            && (!self.anchor.end || at + self.preimage.len() == self.image.lines.len())
    }

    fn fits(&self, at: usize) -> bool {
        let Some(lines) = self.image.lines.get(at..at.saturating_add(self.preimage.len())) else {
            return false;
        };
        lines.iter().all(|line| !line.placed) && self.matched_lines(at) == self.preimage.len()
    }

    /// How many of the hunk's old lines match from `at` on, until the first that does not.
    fn matched_lines(&self, at: usize) -> usize {
        let lines = self.image.lines.get(at..).unwrap_or_default();
        let pairs = self.preimage.iter().zip(lines).enumerate();
        pairs.take_while(|(number, (expected, line))| self.line_matches(*number, expected, line.text)).count()
    }

    /// Git lets a last context line without newline match a longer line whose rest is white space.
    fn line_matches(&self, number: usize, expected: &[u8], found: &[u8]) -> bool {
        let may_be_longer =
            number + 1 == self.preimage.len() && !self.anchor.end && !expected.ends_with(b"\n");
        expected == found
            || may_be_longer
                && found.strip_prefix(expected).is_some_and(|rest| rest.iter().all(u8::is_ascii_whitespace))
    }

    /// Explains a failure by the candidate at which most lines match, the nearest of several.
    fn why_not(&self, candidates: impl Iterator<Item = usize>) -> ApplyReason {
        let wanted = self.preimage.len();
        let best = candidates
            .map(|at| (at, self.matched_lines(at)))
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        let (at, matched) = best.unwrap_or((0, 0));
        if matched < wanted {
            let (line, lines) = (at + matched, &self.image.lines);
            return mismatch(
                line,
                lines.get(line).map(|line| line.text),
                self.preimage[matched],
                lines.len(),
            );
        }
        match self.anchor {
            Anchor { start: true, .. } if at > 0 => ApplyReason::NotAtEdge { line: at + 1, edge: "start" },
            Anchor { end: true, .. } if at + wanted < self.image.lines.len() => {
                ApplyReason::NotAtEdge { line: at + 1, edge: "end" }
            }
            _ => ApplyReason::Overlap { line: at + 1 },
        }
    }
}

fn mismatch(at: usize, found: Option<&[u8]>, expected: &[u8], lines: usize) -> ApplyReason {
    let expected = excerpt(expected);
    match found {
        Some(found) => ApplyReason::Mismatch { line: at + 1, expected, found: excerpt(found) },
        None => ApplyReason::PastEnd { lines, expected },
    }
}

/// All positions from 0 to `lines`, those near `first` before those farther away, forwards before backwards.
fn outwards(first: usize, lines: usize) -> impl Iterator<Item = usize> {
    let first = first.min(lines);
    let farthest = first.max(lines - first);
    let around = (1..=farthest).flat_map(move |distance| {
        let forwards = first.checked_add(distance).filter(|&at| at <= lines);
        [forwards, first.checked_sub(distance)].into_iter().flatten()
    });
    std::iter::once(first).chain(around)
}

/// A line for a message: what differs is usually near its start.
fn excerpt(line: &[u8]) -> String {
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_goes_outwards_and_tries_each_position_once() {
        let order = |first, lines| outwards(first, lines).collect::<Vec<_>>();
        assert_eq!(order(2, 5), [2, 3, 1, 4, 0, 5]);
        assert_eq!(order(0, 2), [0, 1, 2]);
        assert_eq!(order(9, 2), [2, 1, 0]);
        assert_eq!(order(0, 0), [0]);
    }
}
