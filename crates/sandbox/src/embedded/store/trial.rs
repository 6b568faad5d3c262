//! A small image with everything that makes layers hard: files of several owners, removed ones, emptied folders.

use std::io;

/// A folder of the lower layer that the upper one empties.
pub(in crate::embedded) const EMPTIED: &str = "/emptied";
/// A file of the lower layer that the upper one removes.
pub(in crate::embedded) const REMOVED: &str = "/removed";
/// A file of the lower layer that stays, of a user other than root.
pub(in crate::embedded) const KEPT: &str = "/kept";

const OWNER: u64 = 1234;

pub(super) fn low() -> io::Result<Vec<u8>> {
    archive(&["emptied/below", "removed", "kept"])
}

pub(super) fn high() -> io::Result<Vec<u8>> {
    archive(&["emptied/.wh..wh..opq", ".wh.removed"])
}

fn archive(names: &[&str]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(OWNER);
        header.set_gid(OWNER);
        archive.append_data(&mut header, name, io::empty())?;
    }
    archive.into_inner()
}
