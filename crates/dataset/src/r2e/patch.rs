//! The patch of a commit, rebuilt byte for byte as R2E-Gym's `get_patch` gives it.

use super::commit::{FileDiff, Hunk, Line, LineRange, LineType, ParsedCommit};

/// Which files go into a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchOptions {
    /// Whether test files do.
    pub test_files: bool,
    /// Whether other files do.
    pub other_files: bool,
    /// Whether files that are not `.py` are left out.
    pub only_python: bool,
    /// Only these, unless it is empty: the seed takes an empty list for no filter.
    pub include: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
}

impl PatchOptions {
    /// The gold patch: everything but tests, in whatever language.
    pub const GOLD: Self = Self::of(false, false);
    /// The seed's own defaults: tests too, but Python only.
    pub const SEED: Self = Self::of(true, true);
    /// The whole commit.
    pub const ALL: Self = Self::of(true, false);

    const fn of(test_files: bool, only_python: bool) -> Self {
        Self { test_files, other_files: true, only_python, include: Vec::new(), exclude: Vec::new() }
    }
}

impl Default for PatchOptions {
    fn default() -> Self {
        Self::SEED
    }
}

impl ParsedCommit {
    /// Rebuilds the commit's patch, or the part of it that `options` select.
    pub fn patch(&self, options: &PatchOptions) -> String {
        let mut patch = String::new();
        let selected = self.file_diffs.iter().filter(|file| file.is_selected(options));
        selected.for_each(|file| file.write(&mut patch));
        patch
    }
}

impl FileDiff {
    /// The file's path.
    pub fn path(&self) -> &str {
        &self.header.file.path
    }

    /// Whether the seed calls this a test file, going by its path.
    pub fn is_test(&self) -> bool {
        let path = self.path();
        let name = path.rsplit('/').next().unwrap_or(path);
        let in_test_folder = path.split('/').any(|part| matches!(part, "tests" | "Tests" | "test" | "Test"));
        path.ends_with("_test.py") || path.starts_with("test_") || name.starts_with("test_") || in_test_folder
    }

    fn is_selected(&self, options: &PatchOptions) -> bool {
        let PatchOptions { test_files, other_files, only_python, include, exclude } = options;
        let listed = |list: &[String]| list.iter().any(|path| path == self.path());
        !listed(exclude)
            && (include.is_empty() || listed(include))
            && (!only_python || self.path().ends_with(".py"))
            && if self.is_test() { *test_files } else { *other_files }
    }

    fn write(&self, patch: &mut String) {
        let path = self.path();
        let mut line = |text: &str| {
            patch.push_str(text);
            patch.push('\n');
        };
        line(&format!("diff --git a/{path} b/{path}"));
        if let Some(misc) = present(&self.header.misc_line) {
            line(misc);
        }
        if let Some(index) = &self.index_line {
            let mode = if index.mode.is_empty() { String::new() } else { format!(" {}", index.mode) };
            line(&format!("index {}..{}{mode}", index.old_commit_hash, index.new_commit_hash));
        }
        if let Some(binary) = present(&self.binary_line) {
            line(binary);
        }
        if let (Some(minus), Some(plus)) = (&self.minus_file, &self.plus_file) {
            line(&format!("--- {}", minus.path));
            line(&format!("+++ {}", plus.path));
        }
        self.hunks.iter().for_each(|hunk| hunk.write(&mut line));
    }
}

impl Hunk {
    fn write(&self, line: &mut impl FnMut(&str)) {
        let header = &self.descriptor;
        let section = if header.section.is_empty() { String::new() } else { format!(" {}", header.section) };
        line(&format!("@@ -{} +{} @@{section}", range(header.old_range), range(header.new_range)));
        self.line_group.all_lines.iter().for_each(|text| line(&marked(text)));
    }
}

/// A length that the header left out stays left out.
fn range(range: LineRange) -> String {
    match range.length {
        Some(length) => format!("{},{length}", range.start),
        None => range.start.to_string(),
    }
}

fn marked(line: &Line) -> String {
    let marker = match line.kind {
        LineType::Context => " ",
        LineType::Added => "+",
        LineType::Deleted => "-",
        LineType::Note => "\\ ",
    };
    format!("{marker}{}", line.content)
}

fn present(line: &Option<String>) -> Option<&String> {
    line.as_ref().filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> FileDiff {
        let json = serde_json::json!({"header": {"file": {"path": path}, "misc_line": "old mode 100644"}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn test_files_are_told_by_their_path() {
        let tests = [
            "a_test.py",
            "test_a.py",
            "test_data/x.txt",
            "a/test_b.txt",
            "a/tests/x",
            "Test/x",
            "a/Tests/b/c",
            "test/x",
        ];
        let others =
            ["a.py", "a/testing.py", "contest/x.py", "latest.py", "a_test.txt", "a/TESTS/x", "tests.py"];
        for path in tests {
            assert!(file(path).is_test(), "{path}");
        }
        for path in others {
            assert!(!file(path).is_test(), "{path}");
        }
    }

    #[test]
    fn options_select_files() {
        let paths = ["a.py", "README.md", "tests/test_a.py", "tests/data.txt"];
        let commit = ParsedCommit {
            file_diffs: paths.map(file).into(),
            old_commit_hash: "1^".into(),
            new_commit_hash: "1".into(),
            commit_message: String::new(),
            commit_date: None,
            metadata: serde_json::Value::Null,
        };
        let with = |change: fn(&mut PatchOptions)| {
            let mut options = PatchOptions::ALL;
            change(&mut options);
            options
        };
        let cases: [(PatchOptions, &[usize]); 7] = [
            (PatchOptions::SEED, &[0, 2]),
            (PatchOptions::GOLD, &[0, 1]),
            (PatchOptions::ALL, &[0, 1, 2, 3]),
            (with(|options| options.other_files = false), &[2, 3]),
            (with(|options| options.exclude = vec!["a.py".into()]), &[1, 2, 3]),
            (with(|options| options.include = vec!["a.py".into()]), &[0]),
            (with(|options| options.include = vec![]), &[0, 1, 2, 3]),
        ];
        for (options, selected) in cases {
            let expected: String = selected
                .iter()
                .map(|&at| format!("diff --git a/{0} b/{0}\nold mode 100644\n", paths[at]))
                .collect();
            assert_eq!(commit.patch(&options), expected, "{options:?}");
        }
    }
}
