//! File operations.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::error::FileErrorKind;

fn kind_of<T: std::fmt::Debug>(result: Result<T, SandboxError>) -> FileErrorKind {
    match result.unwrap_err() {
        SandboxError::File { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut sandbox = plain().await;
    for (name, content) in [
        ("empty", vec![]),
        ("text", b"line\r\n\xff\0".to_vec()),
        ("a/b/c/large", (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()),
    ] {
        let path = text(&folder.path().join(name));
        sandbox.write(&path, &content, FileMode::Plain).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), content, "{name}");
        let size = content.len() as u64;
        assert_eq!(sandbox.read(&path, size).await.unwrap(), content, "{name}");
        assert_eq!(sandbox.stat(&path).await.unwrap(), Some((EntryKind::File, size)), "{name}");
        if size > 0 {
            assert_eq!(kind_of(sandbox.read(&path, size - 1).await), FileErrorKind::TooLarge, "{name}");
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "no temporary file is left: {left:?}");
}

#[tokio::test]
async fn modes_and_links_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().mode() & 0o7777;
    fs::write(path("tool"), "old").unwrap();
    fs::set_permissions(path("tool"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("tool", path("link")).unwrap();
    symlink("later/new", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    let mut sandbox = plain().await;
    sandbox.write(&text(&path("link")), b"new", FileMode::Keep).await.unwrap();
    assert_eq!((fs::read(path("tool")).unwrap(), mode("tool")), (b"new".to_vec(), 0o4711));
    assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
    sandbox.write(&text(&path("dangling")), b"new", FileMode::Keep).await.unwrap();
    assert_eq!((fs::read(path("later/new")).unwrap(), mode("later/new")), (b"new".to_vec(), 0o644));
    sandbox.write(&text(&path("run")), b"x", FileMode::Executable).await.unwrap();
    assert_eq!(mode("run"), 0o755);
    sandbox.write(&text(&path("run")), b"x", FileMode::Plain).await.unwrap();
    assert_eq!(mode("run"), 0o644);
    assert_eq!(kind_of(sandbox.write(&text(&path("loop")), b"", FileMode::Keep).await), FileErrorKind::Other);
    sandbox.symlink(&text(&path("x/y")), b"../\xff").await.unwrap();
    sandbox.symlink(&text(&path("x/y")), b"../tool").await.unwrap();
    assert_eq!(fs::read_link(path("x/y")).unwrap(), Path::new("../tool"));
    assert_eq!(kind_of(sandbox.symlink(&text(&path("x")), b"a").await), FileErrorKind::IsDirectory);
}

#[tokio::test]
async fn errors_have_their_kind_and_leave_the_stream_usable() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    fs::write(path("file"), "x").unwrap();
    let mut sandbox = plain().await;
    output(&mut sandbox, &format!("mkfifo {}", path("pipe"))).await;
    let limit = 1 << 20;
    assert_eq!(kind_of(sandbox.read(&path("none"), limit).await), FileErrorKind::NotFound);
    assert_eq!(kind_of(sandbox.read(&path("file/x"), limit).await), FileErrorKind::NotADirectory);
    assert_eq!(kind_of(sandbox.read(&path(""), limit).await), FileErrorKind::IsDirectory);
    assert_eq!(kind_of(sandbox.read(&path("pipe"), limit).await), FileErrorKind::Other);
    assert_eq!(kind_of(sandbox.write(&path(""), b"x", FileMode::Keep).await), FileErrorKind::IsDirectory);
    assert_eq!(
        kind_of(sandbox.write("/dev/full/x", &vec![0; 3 << 20], FileMode::Keep).await),
        FileErrorKind::NotADirectory
    );
    assert_eq!(
        kind_of(sandbox.write("/dev/full", &vec![0; 3 << 20], FileMode::Keep).await),
        FileErrorKind::Other
    );
    assert_eq!(kind_of(sandbox.list(&path("file"), 1, false, 10).await), FileErrorKind::NotADirectory);
    assert_eq!(kind_of(sandbox.read(&"x".repeat(2 << 20), limit).await), FileErrorKind::TooLarge);
    assert_eq!(kind_of(sandbox.read("a\0b", limit).await), FileErrorKind::Other);
    assert_eq!(sandbox.stat(&path("none")).await.unwrap(), None);
    assert_eq!(sandbox.stat(&path("file/none")).await.unwrap(), None);
    assert_eq!(sandbox.stat(&path("pipe")).await.unwrap().map(|(kind, _)| kind), Some(EntryKind::Other));
    for name in ["none", "file/none", "file", "pipe", ""] {
        sandbox.remove(&path(name)).await.unwrap();
    }
    assert!(!folder.path().exists());
    fs::create_dir(folder.path()).unwrap();
}

#[tokio::test]
async fn generated_files_are_read_whole() {
    let mut sandbox = plain().await;
    let limits = sandbox.read("/proc/self/limits", 1 << 20).await.unwrap();
    assert!(limits.starts_with(b"Limit"));
    assert_eq!(kind_of(sandbox.read("/proc/self/limits", 10).await), FileErrorKind::TooLarge);
}

#[tokio::test]
async fn listings_are_sorted_bounded_and_follow_no_links() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b/z", "b/a/deep", "a.txt", ".hidden/x", "b/.h"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    symlink("b", folder.path().join("link")).unwrap();
    let root = text(folder.path());
    let mut sandbox = plain().await;
    for (depth, skip_hidden, most, expected) in [
        (1, true, 100, &["a.txt", "b", "link"][..]),
        (1, false, 100, &[".hidden", "a.txt", "b", "link"]),
        (2, true, 100, &["a.txt", "b", "b/a", "b/z", "link"]),
        (9, false, 100, &[".hidden", ".hidden/x", "a.txt", "b", "b/.h", "b/a", "b/a/deep", "b/z", "link"]),
        (9, true, 3, &["a.txt", "b", "b/a"]),
    ] {
        let entries = sandbox.list(&root, depth, skip_hidden, most).await.unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| &entry.path[..]).collect();
        assert_eq!(paths, expected, "depth {depth}");
        for DirEntry { path, kind, size } in entries {
            let metadata = fs::symlink_metadata(folder.path().join(&path)).unwrap();
            assert_eq!(size, metadata.len(), "{path}");
            assert_eq!(kind == EntryKind::Directory, metadata.is_dir(), "{path}");
            assert_eq!(kind == EntryKind::Symlink, metadata.is_symlink(), "{path}");
        }
    }
}

#[tokio::test]
async fn searches_find_text_not_patterns() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in
        [("a.py", "x = a.b\ny = aXb\n"), ("d/b.py", "a.b\na.b a.b"), ("c.txt", "a.b"), (".h/c.py", "a.b")]
    {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let root = text(folder.path());
    let mut sandbox = plain().await;
    let query = |path: &str, suffix: &str, max_files, skip_hidden| SearchQuery {
        path: path.into(),
        needle: "a.b".into(),
        suffix: suffix.into(),
        max_files,
        skip_hidden,
    };
    let hit = |name: &str, lines: &[(u64, &str)]| SearchHit {
        path: format!("{root}/{name}"),
        lines: lines.iter().map(|(number, line)| (*number, (*line).to_owned())).collect(),
        count: lines.len() as u64,
    };
    let (a, b) = (hit("a.py", &[(1, "x = a.b")]), hit("d/b.py", &[(1, "a.b"), (2, "a.b a.b")]));
    for (query, expected) in [
        (query(&root, ".py", 10, true), vec![a.clone(), b.clone()]),
        (query(&root, "", 10, true), vec![a.clone(), hit("c.txt", &[(1, "a.b")]), b.clone()]),
        (query(&root, ".py", 10, false), vec![hit(".h/c.py", &[(1, "a.b")]), a.clone(), b.clone()]),
        (query(&root, ".py", 1, true), vec![a.clone()]),
        (query(&format!("{root}/a.py"), "", 10, true), vec![a]),
    ] {
        assert_eq!(sandbox.search(&query).await.unwrap(), expected, "{query:?}");
    }
    assert_eq!(kind_of(sandbox.search(&query("/no/such", "", 1, true)).await), FileErrorKind::NotFound);
}

#[tokio::test]
async fn archives_carry_modes_links_and_long_names() {
    let from = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    for (name, mode) in [("a", 0o644), ("b/tool", 0o755), (&long[..], 0o600)] {
        let path = from.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("../a", from.path().join("b/link")).unwrap();
    fs::create_dir(from.path().join("empty")).unwrap();
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("new/folder");
    let mut sandbox = plain().await;
    let tar = sandbox.archive(&text(from.path()), 1 << 20).await.unwrap();
    sandbox.unarchive(&text(&target), &tar).await.unwrap();
    for name in ["a", "b/tool", &long] {
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), name);
        let mode = |root: &Path| fs::metadata(root.join(name)).unwrap().mode();
        assert_eq!(mode(&target), mode(from.path()), "{name}");
    }
    assert_eq!(fs::read_link(target.join("b/link")).unwrap(), Path::new("../a"));
    assert!(target.join("empty").is_dir());
    assert_eq!(kind_of(sandbox.archive(&text(from.path()), 2000).await), FileErrorKind::TooLarge);
    let one = sandbox.archive(&text(&from.path().join("a")), 1 << 20).await.unwrap();
    let names: Vec<_> = tar::Archive::new(&one[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(names, [Path::new("a")]);
}

#[tokio::test]
async fn an_archive_cannot_leave_its_folder() {
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("in");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let name = b"../out";
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    let mut sandbox = plain().await;
    assert_eq!(
        kind_of(sandbox.unarchive(&text(&target), &tar.into_inner().unwrap()).await),
        FileErrorKind::Denied
    );
    assert!(!to.path().join("out").exists());
    assert!(
        sandbox.unarchive(&text(&target), b"no tar at all, but long enough to be read as one").await.is_err()
    );
    assert_eq!(output(&mut sandbox, "echo ok").await, "ok");
}

#[tokio::test]
async fn many_files_come_in_one_answer() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "x").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join("large"), vec![7; 1_000_000]).unwrap();
    symlink("nowhere", folder.path().join("link")).unwrap();
    let root = text(folder.path());
    let mut sandbox = plain().await;
    let paths = [&b"large"[..], b"a", b"empty", b"link", b"a"].map(<[u8]>::to_vec);
    let contents = sandbox.read_many(&root, &paths).await.unwrap();
    let expected = [&vec![7; 1_000_000][..], b"x", b"", b"nowhere", b"x"];
    assert_eq!(contents, expected);
    assert_eq!(sandbox.read_many(&root, &[]).await.unwrap(), Vec::<Bytes>::new());
    assert_eq!(
        kind_of(sandbox.read_many(&root, &[b"a".to_vec(), b"none".to_vec()]).await),
        FileErrorKind::NotFound
    );
}
