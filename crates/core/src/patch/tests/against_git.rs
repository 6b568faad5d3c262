//! Comparisons with the git of this machine. They say so and pass where there is none.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;

use super::random::{Random, Tree, changes, entries, patched};
use crate::patch::{ApplyMode, FileMode, render, tree_id};

/// A repository in a temporary folder.
pub(super) struct Repository(tempfile::TempDir);

impl Repository {
    /// `None` where git is absent.
    pub(super) fn new() -> Option<Self> {
        let repository = Self(tempfile::tempdir().unwrap());
        if Command::new("git").arg("--version").output().is_err() {
            println!("skipped: this machine has no git");
            return None;
        }
        repository.git(&["init", "-q"], b"").unwrap();
        Some(repository)
    }

    pub(super) fn git(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut child = Command::new("git")
            .args(arguments)
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(message) }
    }

    /// Replaces the work tree and the index.
    pub(super) fn put(&self, tree: &Tree) -> String {
        for entry in std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap) {
            if entry.file_name() != ".git" {
                let path = entry.path();
                let is_folder = entry.file_type().unwrap().is_dir();
                if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
            }
        }
        tree.iter().for_each(|(path, file)| write(&self.0.path().join(OsStr::from_bytes(path)), file));
        self.snapshot()
    }

    /// The id of the work tree as `git add -A` sees it.
    pub(super) fn snapshot(&self) -> String {
        self.git(&["add", "-A"], b"").unwrap();
        let id = self.git(&["write-tree"], b"").unwrap();
        String::from_utf8(id).unwrap().trim().to_owned()
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.path().join(path)).ok()
    }
}

fn write(path: &Path, (mode, content): &(FileMode, Bytes)) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if *mode == FileMode::Symlink {
        return symlink(OsStr::from_bytes(content), path).unwrap();
    }
    std::fs::write(path, content).unwrap();
    let bits = if *mode == FileMode::Executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
}

#[test]
fn tree_ids_are_gits_and_git_applies_what_we_render() {
    let Some(repository) = Repository::new() else { return };
    for seed in 1000..1040 {
        let mut random = Random(seed);
        let old = random.tree();
        let new = random.edited_tree(&old);
        assert_eq!(repository.put(&old), tree_id(&entries(&old)).to_string(), "seed {seed}");
        let rendered = render(&changes(&old, &new));
        if !rendered.bytes.is_empty() {
            let applied = repository.git(&["apply", "--whitespace=nowarn"], &rendered.bytes);
            applied.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(repository.snapshot(), tree_id(&entries(&new)).to_string(), "seed {seed}");
        assert_eq!(numstat(&repository, &rendered.bytes), (rendered.added, rendered.removed), "seed {seed}");
    }
}

/// Lines added and removed as git counts them in a patch.
fn numstat(repository: &Repository, patch: &[u8]) -> (u64, u64) {
    if patch.is_empty() {
        return (0, 0);
    }
    let table = repository.git(&["apply", "--numstat"], patch).unwrap();
    let lines = table.split(|&byte| byte == b'\n').map(String::from_utf8_lossy);
    lines.fold((0, 0), |(added, removed), line| {
        let mut fields = line.split('\t').map(|field| field.parse::<u64>().unwrap_or(0));
        (added + fields.next().unwrap_or(0), removed + fields.next().unwrap_or(0))
    })
}

#[test]
fn we_apply_what_git_writes() {
    let Some(repository) = Repository::new() else { return };
    let variants: [&[&str]; 4] =
        [&["--no-renames"], &["-M", "-C", "--find-copies-harder"], &["-U1"], &["--no-renames", "--patience"]];
    for seed in 2000..2040 {
        let mut random = Random(seed);
        let old = random.tree();
        let mut new = random.edited_tree(&old);
        if let Some((path, file)) = new.pop_first() {
            new.insert([&b"renamed/"[..], &path].concat(), file);
        }
        let (before, after) = (repository.put(&old), repository.put(&new));
        for variant in variants {
            let arguments = [&["diff", "--binary", "--full-index"], variant, &[&before, &after]].concat();
            let patch = repository.git(&arguments, b"").unwrap();
            for mode in [ApplyMode::Exact, ApplyMode::Git] {
                let result = patched(&old, &patch, mode);
                let result =
                    result.unwrap_or_else(|error| panic!("seed {seed} {variant:?} {mode:?}: {error}"));
                assert!(result == new, "seed {seed} {variant:?} {mode:?}");
            }
        }
    }
}

/// A patch meets a file that has changed since. Ours and git's verdict and result must be the same.
#[test]
fn hunks_go_where_git_puts_them() {
    let Some(repository) = Repository::new() else { return };
    let (mut applied, mut refused) = (0, 0);
    for seed in 3000..3400 {
        let mut random = Random(seed);
        let lines = random.below(40);
        let old = random.text(lines);
        let (new, other) = (random.edited(&old), random.edited(&old));
        let tree = |content: &[u8]| {
            Tree::from([(b"f".to_vec(), (FileMode::Regular, Bytes::copy_from_slice(content)))])
        };
        let patch = render(&changes(&tree(&old), &tree(&new))).bytes;
        if patch.is_empty() {
            continue;
        }
        write(&repository.0.path().join("f"), &(FileMode::Regular, other.clone().into()));
        let theirs = repository.git(&["apply", "--whitespace=nowarn"], &patch);
        let ours = patched(&tree(&other), &patch, ApplyMode::Git);
        match (&theirs, &ours) {
            (Ok(_), Ok(tree)) => {
                applied += 1;
                assert_eq!(repository.read("f").unwrap(), tree[&b"f"[..]].1, "seed {seed}");
            }
            (Err(_), Err(_)) => refused += 1,
            _ => panic!("seed {seed}: git {theirs:?}, ours {ours:?}\n{}", String::from_utf8_lossy(&patch)),
        }
    }
    assert!(applied > 50 && refused > 50, "{applied} applied, {refused} refused");
}
