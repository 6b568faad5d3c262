//! Snapshots, against git's own answer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command as Std;

use super::*;

/// Runs git in `root` without the user's settings.
fn git(root: &Path, arguments: &[&str]) -> String {
    let output = Std::new("git")
        .args(["-c", "core.excludesFile=/dev/null", "-c", "user.name=a", "-c", "user.email=a@b"])
        .args(arguments)
        .current_dir(root)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn has_git() -> bool {
    let has = Std::new("git").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        println!("skipped: this machine has no git");
    }
    has
}

/// What git would have in its index after `git add -A`, in the snapshot's form.
fn as_git_sees_it(root: &Path) -> Vec<(String, u32, String)> {
    git(root, &["add", "-A"]);
    let entry = |line: &str| {
        let (head, path) = line.split_once('\t').unwrap();
        let mut head = head.split(' ');
        let mode = u32::from_str_radix(head.next().unwrap(), 8).unwrap();
        (path.to_owned(), mode, head.next().unwrap().to_owned())
    };
    git(root, &["ls-files", "-s", "-z"]).split_terminator('\0').map(entry).collect()
}

async fn as_the_guest_sees_it(sandbox: &mut Sandbox, root: &Path) -> Vec<(String, u32, String)> {
    let entries = sandbox.snapshot(&text(root)).await.unwrap();
    let hex = |blob: [u8; 20]| blob.iter().map(|byte| format!("{byte:02x}")).collect();
    let entry = |entry: SnapshotEntry| (String::from_utf8(entry.path).unwrap(), entry.mode, hex(entry.blob));
    entries.into_iter().map(entry).collect()
}

fn put(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A tree in which every rule of ignore files has work to do; tracked files among what is ignored.
fn fixture(root: &Path) {
    git(root, &["init", "-q"]);
    put(root, "build/tracked.o", "tracked though ignored");
    put(root, "logs/deep/tracked.log", "also");
    git(root, &["add", "-A"]);
    git(root, &["commit", "-q", "-m", "begin"]);
    put(root, ".git/info/exclude", "from-exclude\n*.swp\n");
    let ignore = "\u{feff}*.o\n!keep.o\nbuild/\n/only-root\nlogs/**\n**/cache/\nfoo/*/bar\n\
        # comment\n\\#hash\n\\!bang\nspace \nescaped\\ \nwin\r\n[ab]?.tmp\n[!x]y.tmp\na/**/z\n*.swp.keep\n!x.swp\n\
        doc/*.txt\nmiddle**star\ntrailing/**/\nopen[bracket\nback\\\\slash\n";
    put(root, ".gitignore", ignore);
    put(root, "sub/.gitignore", "*\n!.gitignore\n!*.keep\n!inner/\n");
    put(root, "nested/.gitignore", "!*.o\n/local\n");
    for name in [
        "a.o",
        "keep.o",
        "x/keep.o",
        "build/a.c",
        "x/build/a.c",
        "only-root",
        "x/only-root",
        "logs/a",
        "logs/deep/b",
        "cache/a",
        "x/y/cache/a",
        "foo/x/bar",
        "foo/x/y/bar",
        "foo/bar",
        "#hash",
        "hash",
        "!bang",
        "space",
        "space ",
        "escaped ",
        "escaped",
        "win",
        "aa.tmp",
        "ab.tmp",
        "ca.tmp",
        "ay.tmp",
        "xy.tmp",
        "a/z",
        "a/b/z",
        "a/b/c/z",
        "a/b/zz",
        "v.swp",
        "x.swp",
        "v.swp.keep",
        "doc/a.txt",
        "doc/x/a.txt",
        "middleXstar",
        "middle/star",
        "trailing/x",
        "trailing/a/b",
        "open[bracket",
        "openb",
        "back\\slash",
        "sub/a",
        "sub/b.keep",
        "sub/inner/c",
        "sub/inner/d.keep",
        "nested/a.o",
        "nested/x/b.o",
        "nested/local",
        "nested/x/local",
        "from-exclude",
        "x/from-exclude",
        "plain.txt",
        "with space.txt",
        "ü.txt",
        "win2\r",
    ] {
        put(root, name, name);
    }
    fs::create_dir_all(root.join("empty/folder")).unwrap();
    fs::set_permissions(root.join("plain.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("plain.txt", root.join("link")).unwrap();
    symlink("build", root.join("link-to-folder")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
}

#[tokio::test]
async fn a_snapshot_is_what_git_add_takes() {
    if !has_git() {
        return;
    }
    for version in ["2", "3", "4"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fixture(root);
        git(root, &["update-index", "--index-version", version]);
        if version == "3" {
            // Version 3 is only written where an entry needs its extended flags.
            put(root, "intended", "x");
            git(root, &["add", "--intent-to-add", "intended"]);
        }
        let mut sandbox = plain().await;
        let got = as_the_guest_sees_it(&mut sandbox, root).await;
        assert_eq!(got, as_git_sees_it(root), "index version {version}");
        // Later snapshots know what changed, appeared, vanished, or changed its kind.
        put(root, "plain.txt", "changed");
        put(root, "build/tracked.o", "changed, and ignored by name");
        put(root, "build/new.c", "ignored");
        put(root, "new", "new");
        fs::remove_file(root.join("foo/bar")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        put(root, "link/file", "now a folder");
        fs::set_permissions(root.join("keep.o"), fs::Permissions::from_mode(0o755)).unwrap();
        let got = as_the_guest_sees_it(&mut sandbox, root).await;
        assert_eq!(got, as_git_sees_it(root), "after changes, index version {version}");
    }
}

#[tokio::test]
async fn what_the_baseline_has_is_never_ignored_later() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, "src/a.py", "1");
    put(root, "src/b.py", "1");
    let mut sandbox = plain().await;
    let names =
        |entries: Vec<(String, u32, String)>| entries.into_iter().map(|entry| entry.0).collect::<Vec<_>>();
    assert_eq!(names(as_the_guest_sees_it(&mut sandbox, root).await), ["src/a.py", "src/b.py"]);
    put(root, ".gitignore", "src/\n");
    put(root, "src/a.py", "2");
    put(root, "src/c.py", "new and ignored");
    fs::remove_file(root.join("src/b.py")).unwrap();
    let later = as_the_guest_sees_it(&mut sandbox, root).await;
    assert_eq!(names(later.clone()), [".gitignore", "src/a.py"]);
    put(root, "src/b.py", "1");
    assert_eq!(names(as_the_guest_sees_it(&mut sandbox, root).await), [".gitignore", "src/a.py", "src/b.py"]);
    assert!(
        later.iter().any(|(_, _, blob)| blob == "d8263ee9860594d2806b0dfd1bfd17528b0ba2a4"),
        "the blob of `2`"
    );
}

#[tokio::test]
async fn an_index_that_breaks_later_changes_nothing() {
    if !has_git() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fixture(root);
    let mut sandbox = plain().await;
    let before = as_the_guest_sees_it(&mut sandbox, root).await;
    put(root, ".git/index", "DIRC rubbish");
    assert_eq!(as_the_guest_sees_it(&mut sandbox, root).await, before);
    let mut fresh = plain().await;
    assert!(
        matches!(fresh.snapshot(&text(root)).await, Err(SandboxError::File { .. })),
        "no baseline from it"
    );
}

#[tokio::test]
async fn other_forms_of_repository_are_read() {
    if !has_git() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, tree) = (folder.path().join("main"), folder.path().join("tree"));
    fs::create_dir(&root).unwrap();
    fixture(&root);
    // A second work tree has a file `.git` that points to its part of the repository.
    git(&root, &["worktree", "add", "-q", "../tree"]);
    put(&tree, "x.swp", "ignored by the shared exclude file");
    put(&tree, "build/new.o", "not ignored: this tree has no ignore file");
    let mut sandbox = plain().await;
    let got = as_the_guest_sees_it(&mut sandbox, &tree).await;
    assert_eq!(got, as_git_sees_it(&tree));
    git(&root, &["update-index", "--split-index"]);
    let got = as_the_guest_sees_it(&mut sandbox, &root).await;
    assert_eq!(got, as_git_sees_it(&root));
}

#[tokio::test]
async fn odd_files_and_nested_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, "vendor/lib/.git/HEAD", "ref: x");
    put(root, "vendor/lib/code.py", "x");
    put(root, "module/.git", "gitdir: ../elsewhere");
    put(root, "module/code.py", "x");
    let mut sandbox = plain().await;
    let deep = "d/".repeat(1200);
    output(
        &mut sandbox,
        &format!("cd {0}; mkfifo pipe; mkdir -p {deep}; touch {deep}f; touch $'bad\\xff'", text(root)),
    )
    .await;
    let entries = sandbox.snapshot(&text(root)).await.unwrap();
    let paths: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.path).collect();
    let expected = [&b"bad\xff"[..], format!("{deep}f").as_bytes(), b"module/code.py", b"vendor/lib/code.py"]
        .map(<[u8]>::to_vec);
    assert_eq!(paths, expected);
}
