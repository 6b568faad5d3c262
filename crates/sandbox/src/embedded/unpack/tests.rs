//! Layers as honest and as hostile archives bring them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

/// An entry: kind, path, link target or content.
type Item<'a> = (EntryType, &'a str, &'a str);

/// Builds a tar as an attacker would: names go in as they are.
pub(crate) fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, path, text) in items {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        let is_file = *kind == EntryType::Regular;
        if !is_file {
            old.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        header.set_cksum();
        archive.extend(header.as_bytes());
        if is_file {
            archive.extend(text.as_bytes());
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn unpacked(items: &[Item<'_>]) -> (tempfile::TempDir, io::Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("layer")).unwrap();
    let result = unpack(&tar_of(items)[..], &folder.path().join("layer"), Mounter::Root);
    (folder, result)
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

#[test]
fn honest_layers_come_out_as_they_are() {
    let (folder, result) = unpacked(&[
        (DIR, "./", ""),
        (DIR, "a/", ""),
        (FILE, "a/file", "text"),
        (LINK, "a/second", "a/file"),
        (SYMLINK, "a/absolute", "/a/file"),
        (SYMLINK, "lib", "usr/lib"),
        (DIR, "usr/lib", ""),
        (FILE, "lib/through-link", "x"),
        (FILE, "no/parent/named", "y"),
        (FILE, "a/file", "newer"),
        (EntryType::Fifo, "a/pipe", ""),
    ]);
    result.unwrap();
    let layer = folder.path().join("layer");
    assert_eq!(fs::read_to_string(layer.join("a/file")).unwrap(), "newer");
    assert_eq!(fs::read_to_string(layer.join("a/second")).unwrap(), "text");
    assert_eq!(fs::read_link(layer.join("a/absolute")).unwrap(), Path::new("/a/file"));
    assert_eq!(fs::read_to_string(layer.join("usr/lib/through-link")).unwrap(), "x");
    assert_eq!(fs::read_to_string(layer.join("no/parent/named")).unwrap(), "y");
    assert!(fs::metadata(layer.join("a/pipe")).unwrap().file_type().is_fifo());
    let file = fs::metadata(layer.join("a/file")).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.mtime()), (0o640, 1_000_000_000));
    assert_eq!(fs::metadata(layer.join("a")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn hard_links_share_their_file() {
    let (folder, result) =
        unpacked(&[(FILE, "one", "text"), (LINK, "two", "./one"), (LINK, "three", "/one")]);
    result.unwrap();
    let inode = |name: &str| fs::metadata(folder.path().join("layer").join(name)).unwrap().ino();
    assert_eq!((inode("one"), inode("one")), (inode("two"), inode("three")));
}

#[test]
fn hostile_layers_are_refused_or_stay_inside() {
    let cases: &[(&str, &[Item<'_>], bool)] = &[
        ("steps up", &[(FILE, "../escaped", "x")], false),
        ("steps up later", &[(FILE, "a/../../escaped", "x")], false),
        ("absolute path", &[(FILE, "/escaped", "x")], true),
        ("link to the machine's root", &[(SYMLINK, "up", "/"), (FILE, "up/escaped", "x")], true),
        ("link with steps up", &[(SYMLINK, "up", "../../.."), (FILE, "up/escaped", "x")], true),
        ("chain of links", &[(SYMLINK, "a", ".."), (SYMLINK, "b", "a/.."), (FILE, "b/escaped", "x")], true),
        ("hard link out", &[(LINK, "passwd", "/../etc/passwd")], false),
        ("hard link through a link", &[(SYMLINK, "e", "/etc"), (LINK, "passwd", "e/passwd")], false),
        ("writing through a link", &[(SYMLINK, "f", "/escaped"), (FILE, "f", "x")], true),
        ("whiteout of a parent", &[(FILE, ".wh...", "")], false),
        ("whiteout of itself", &[(FILE, ".wh..", "")], false),
        ("whiteout of nothing", &[(FILE, ".wh.", "")], false),
        ("folder behind a file", &[(FILE, "f", "x"), (FILE, "f/g", "y")], false),
        ("loop of links", &[(SYMLINK, "a", "b"), (SYMLINK, "b", "a"), (FILE, "a/f", "x")], false),
        ("magic link", &[(SYMLINK, "p", "/proc/self/root"), (FILE, "p/escaped", "x")], false),
        ("folder replaced by a file", &[(FILE, "d/f", "x"), (FILE, "d", "y")], true),
        ("device", &[(EntryType::Char, "null", "")], true),
    ];
    for (name, items, accepted) in cases {
        let (folder, result) = unpacked(items);
        match (&result, accepted) {
            (Ok(()), true) => {}
            (Err(error), false) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}: {error}"),
            _ => panic!("{name}: {result:?}"),
        }
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["layer"], "{name}");
        assert!(!Path::new("/escaped").exists(), "{name}");
    }
}

#[test]
fn torn_archives_are_the_archives_fault() {
    let whole = tar_of(&[(FILE, "a", &"x".repeat(2000))]);
    for length in [100, 700, 1500] {
        let folder = tempfile::tempdir().unwrap();
        let error = unpack(&whole[..length], folder.path(), Mounter::Root).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}: {error}");
    }
}

#[test]
fn whiteouts_become_overlays_own() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: opaque folders need an attribute that only root may set");
        return;
    }
    let (folder, result) = unpacked(&[
        (DIR, "d", ""),
        (FILE, "d/.wh.gone", ""),
        (FILE, "d/kept", "x"),
        (FILE, "d/.wh.kept", ""),
        (DIR, "o", ""),
        (FILE, "o/.wh..wh..opq", ""),
        (FILE, "o/.wh..wh.plnk", ""),
    ]);
    result.unwrap();
    let layer = folder.path().join("layer");
    let gone = fs::metadata(layer.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(fs::read_to_string(layer.join("d/kept")).unwrap(), "x");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(layer.join("o"), "trusted.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"y");
    assert_eq!(fs::read_dir(layer.join("o")).unwrap().count(), 0);
}

#[test]
fn times_have_fractions() {
    for (text, expected) in [
        ("12.5", Some((12, 500_000_000))),
        ("12", Some((12, 0))),
        ("12.1234567891", Some((12, 123_456_789))),
        ("x", None),
    ] {
        assert_eq!(parse_time(text).map(|time| (time.tv_sec, time.tv_nsec)), expected, "{text}");
    }
}
