//! Copies that keep everything a layer needs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::*;

#[test]
fn a_copy_keeps_links_modes_times_and_whiteouts() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir_all(from.join("d/e")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("d/e/file"), "text").unwrap();
    fs::set_permissions(from.join("d/e/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(from.join("d/e/file"), from.join("second")).unwrap();
    symlink("/nowhere", from.join("link")).unwrap();
    fs::set_permissions(from.join("d"), fs::Permissions::from_mode(0o1711)).unwrap();
    let from_fd = File::open(&from).unwrap();
    mknodat(&from_fd, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();

    assert_eq!(copy(&from, &to).unwrap(), 4);

    let (old, new) =
        (fs::metadata(from.join("d/e/file")).unwrap(), fs::metadata(to.join("d/e/file")).unwrap());
    assert_eq!((old.mode(), old.mtime(), old.mtime_nsec()), (new.mode(), new.mtime(), new.mtime_nsec()));
    assert_eq!(new.ino(), fs::metadata(to.join("second")).unwrap().ino());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
    assert_eq!(fs::metadata(to.join("d")).unwrap().mode() & 0o7777, 0o1711);
    assert!(fs::symlink_metadata(to.join("gone")).unwrap().file_type().is_char_device());
}

#[test]
fn only_attributes_with_a_meaning_below_are_kept() {
    for (name, kept) in [
        ("user.note", true),
        ("security.capability", true),
        ("trusted.overlay.opaque", true),
        ("user.overlay.opaque", true),
        ("trusted.overlay.redirect", false),
        ("user.overlay.redirect", false),
        ("trusted.overlay.origin", false),
        ("security.selinux", false),
    ] {
        assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
    }
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tree/deep")).unwrap();
    fs::write(folder.path().join("outside"), "kept").unwrap();
    symlink(folder.path(), folder.path().join("tree/deep/link")).unwrap();
    let parent = File::open(folder.path()).unwrap();
    remove_entry(parent.as_fd(), OsStr::new("tree")).unwrap();
    assert!(!folder.path().join("tree").exists());
    assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "kept");
}
