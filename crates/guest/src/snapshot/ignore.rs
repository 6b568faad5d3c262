//! Ignore files: which files `git add -A` would leave out.

use super::glob::Glob;

/// One line of an ignore file.
#[derive(Clone, Debug)]
struct Rule {
    glob: Glob,
    /// `!`: takes back what an earlier rule ignored.
    negated: bool,
    /// Ends with `/`.
    only_folders: bool,
    /// Has a `/` before its end: matches the path from the file's folder on, else any name.
    anchored: bool,
}

/// The rules of one ignore file.
#[derive(Clone, Debug, Default)]
pub(super) struct IgnoreFile {
    rules: Vec<Rule>,
}

impl IgnoreFile {
    /// Reads an ignore file.
    pub(super) fn parse(content: &[u8]) -> Self {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        let content = content.strip_prefix(BOM).unwrap_or(content);
        Self { rules: content.split(|byte| *byte == b'\n').filter_map(rule).collect() }
    }

    /// What this file says of `path`, relative to the file's folder: the last matching rule decides.
    fn verdict(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let matches = |rule: &&Rule| {
            (is_folder || !rule.only_folders) && rule.glob.matches(if rule.anchored { path } else { name })
        };
        self.rules.iter().rev().find(matches).map(|rule| !rule.negated)
    }
}

fn rule(line: &[u8]) -> Option<Rule> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.split(|byte| *byte == 0).next().unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let line = without_trailing_spaces(line);
    let (negated, line) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest));
    let (only_folders, line) = line.strip_suffix(b"/").map_or((false, line), |rest| (true, rest));
    let anchored = line.contains(&b'/');
    let line = line.strip_prefix(b"/").unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    Some(Rule { glob: Glob::parse(line)?, negated, only_folders, anchored })
}

/// Spaces at the end do not count, unless a backslash stands before them.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        at += if line[at] == b'\\' { 2 } else { 1 };
        if line.get(at - 1) != Some(&b' ') || line.get(at.wrapping_sub(2)) == Some(&b'\\') {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

/// The rules in force at a place of a walk: those of the folders on the way there, and those of the repository.
#[derive(Debug, Default)]
pub(super) struct Rules {
    repository: IgnoreFile,
    folders: Vec<(usize, IgnoreFile)>,
}

impl Rules {
    /// Begins with the repository's own rules, which every folder's rules override.
    pub(super) fn new(repository: IgnoreFile) -> Self {
        Self { repository, folders: Vec::new() }
    }

    /// Enters a folder whose path with its `/` (empty for the root) is `prefix` bytes long.
    pub(super) fn enter(&mut self, prefix: usize, file: IgnoreFile) {
        self.folders.push((prefix, file));
    }

    /// Leaves the folder that was entered last.
    pub(super) fn leave(&mut self) {
        self.folders.pop();
    }

    /// Whether `path`, relative to the root and in a folder that is not ignored itself, is ignored.
    pub(super) fn ignored(&self, path: &[u8], is_folder: bool) -> bool {
        let folders = self.folders.iter().rev();
        let verdict = folders.filter_map(|(prefix, file)| file.verdict(&path[*prefix..], is_folder)).next();
        verdict.or_else(|| self.repository.verdict(path, is_folder)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_git_reads_them() {
        for (line, path, is_folder, verdict) in [
            ("a", "a", false, Some(true)),
            ("a", "x/a", false, Some(true)),
            ("/a", "x/a", false, None),
            ("x/a", "x/a", false, Some(true)),
            ("x/a", "y/x/a", false, None),
            ("a/", "a", false, None),
            ("a/", "x/a", true, Some(true)),
            ("!a", "a", false, Some(false)),
            ("#a", "#a", false, None),
            ("\\#a", "#a", false, Some(true)),
            ("\\!a", "!a", false, Some(true)),
            ("a  ", "a", false, Some(true)),
            ("a\\ ", "a ", false, Some(true)),
            ("a\\  ", "a ", false, Some(true)),
            ("a\t", "a", false, None),
            ("a\r", "a", false, Some(true)),
            ("", "a", false, None),
            ("   ", " ", false, None),
            ("/", "a", true, None),
            ("!", "a", false, None),
        ] {
            let file = IgnoreFile::parse(line.as_bytes());
            assert_eq!(file.verdict(path.as_bytes(), is_folder), verdict, "{line:?} for {path}");
        }
    }

    #[test]
    fn nearer_files_and_later_lines_win() {
        let mut rules = Rules::new(IgnoreFile::parse(b"*.log\n"));
        rules.enter(0, IgnoreFile::parse(b"*.o\n!keep.o\n"));
        assert!(rules.ignored(b"a.log", false));
        assert!(rules.ignored(b"a.o", false));
        assert!(!rules.ignored(b"keep.o", false));
        rules.enter(2, IgnoreFile::parse(b"!*.log\n/keep.o\n"));
        assert!(!rules.ignored(b"d/a.log", false));
        assert!(rules.ignored(b"d/keep.o", false));
        rules.leave();
        assert!(rules.ignored(b"d/a.log", false));
    }
}
