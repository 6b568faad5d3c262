//! Reads the bodies of answers. They come from inside the sandbox, so every claim in them is checked.

#[cfg(feature = "pods")]
use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;
use thresher_guest::{Entry, Hit, SnapshotItem, take_item};

use crate::error::SandboxError;
use crate::guest::connection::broken_frame;
use crate::spec::{DirEntry, EntryKind, SearchHit, SnapshotEntry};

/// The protocol's word for a kind, as this crate's callers know it.
pub(super) fn kind(kind: thresher_guest::EntryKind) -> EntryKind {
    match kind {
        thresher_guest::EntryKind::File => EntryKind::File,
        thresher_guest::EntryKind::Directory => EntryKind::Directory,
        thresher_guest::EntryKind::Symlink => EntryKind::Symlink,
        thresher_guest::EntryKind::Other => EntryKind::Other,
    }
}

/// Reads a listing. Names that are not UTF-8 come with replacement characters.
pub(super) fn listing(body: &[u8]) -> Result<Vec<DirEntry>, SandboxError> {
    items(body, |Entry { path, kind: what, size }| Ok(DirEntry { path: text(&path), kind: kind(what), size }))
}

/// Reads the hits of a search.
pub(super) fn hits(body: &[u8]) -> Result<Vec<SearchHit>, SandboxError> {
    items(body, |Hit { path, lines, count }| {
        let lines = lines.iter().map(|(number, line)| (*number, text(line))).collect();
        Ok(SearchHit { path: text(&path), lines, count })
    })
}

/// Reads a snapshot: paths must be usable below the root, sorted and different; modes must be git's.
pub(super) fn snapshot(body: &[u8]) -> Result<Vec<SnapshotEntry>, SandboxError> {
    let entries = items(body, |SnapshotItem { path, mode, blob, size }| {
        if !is_relative_file(&path) || !matches!(mode, 0o100_644 | 0o100_755 | 0o120_000) {
            return Err(broken("a snapshot with an impossible entry"));
        }
        Ok(SnapshotEntry { path: path.to_vec(), mode, blob, size })
    })?;
    match entries.is_sorted_by(|one, next| one.path < next.path) {
        true => Ok(entries),
        false => Err(broken("a snapshot that is not sorted")),
    }
}

fn is_relative_file(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b".." | b".git") && !name.contains(&0);
    path.split(|byte| *byte == b'/').all(is_name)
}

/// Reads variables; what is not UTF-8 comes with replacement characters.
#[cfg(feature = "pods")]
pub(super) fn variables(body: &[u8]) -> Result<BTreeMap<String, String>, SandboxError> {
    let pairs = items(body, |(name, value): (Bytes, Bytes)| Ok((text(&name), text(&value))))?;
    Ok(pairs.into_iter().collect())
}

/// Reads exactly `count` contents without copying them.
pub(super) fn contents(mut body: Bytes, count: usize) -> Result<Vec<Bytes>, SandboxError> {
    let mut contents = Vec::new();
    while let Some(length) = take_length(&mut body)? {
        let length = usize::try_from(length).ok().filter(|length| *length <= body.len());
        contents.push(body.split_to(length.ok_or_else(|| broken("a content that is cut off"))?));
    }
    match contents.len() == count {
        true => Ok(contents),
        false => Err(broken("another number of contents than asked for")),
    }
}

fn take_length(body: &mut Bytes) -> Result<Option<u64>, SandboxError> {
    let mut rest = &body[..];
    let length = take_item(&mut rest).map_err(broken_frame)?;
    let taken = body.len() - rest.len();
    body.advance(taken);
    Ok(length)
}

fn items<T: DeserializeOwned, R>(
    mut body: &[u8],
    read: impl Fn(T) -> Result<R, SandboxError>,
) -> Result<Vec<R>, SandboxError> {
    let mut items = Vec::new();
    while let Some(item) = take_item(&mut body).map_err(broken_frame)? {
        items.push(read(item)?);
    }
    Ok(items)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn broken(what: &str) -> SandboxError {
    SandboxError::Protocol(what.into())
}

#[cfg(test)]
mod tests {
    use thresher_guest::put_item;

    use super::*;

    #[test]
    fn impossible_snapshots_are_refused() {
        let item = |path: &str, mode| SnapshotItem {
            path: Bytes::copy_from_slice(path.as_bytes()),
            mode,
            blob: [0; 20],
            size: 0,
        };
        for (items, accepted) in [
            (vec![], true),
            (vec![item("a", 0o100_644), item("a/b", 0o100_755), item("b", 0o120_000)], true),
            (vec![item("b", 0o100_644), item("a", 0o100_644)], false),
            (vec![item("a", 0o100_644), item("a", 0o100_644)], false),
            (vec![item("../a", 0o100_644)], false),
            (vec![item("/a", 0o100_644)], false),
            (vec![item("a/.git/hooks/x", 0o100_644)], false),
            (vec![item("", 0o100_644)], false),
            (vec![item("a\0b", 0o100_644)], false),
            (vec![item("a", 0o160_000)], false),
        ] {
            let mut body = Vec::new();
            items.iter().for_each(|item| put_item(item, &mut body).unwrap());
            assert_eq!(snapshot(&body).is_ok(), accepted, "{items:?}");
        }
    }

    #[test]
    fn contents_are_counted_and_never_longer_than_what_came() {
        for (body, count, expected) in [
            (&b"\x02ab\x00\x01c"[..], 3, Some(vec!["ab", "", "c"])),
            (b"", 0, Some(vec![])),
            (b"\x02ab", 2, None),
            (b"\x03ab", 1, None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1, None),
            (b"\xff", 1, None),
        ] {
            let got = contents(Bytes::copy_from_slice(body), count).ok();
            let expected = expected.map(|texts| texts.into_iter().map(Bytes::from).collect::<Vec<_>>());
            assert_eq!(got, expected, "{body:?}");
        }
    }

    #[test]
    fn garbage_is_an_error_or_a_value_and_never_a_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let body: Vec<u8> =
                state.to_le_bytes().iter().chain(&state.swap_bytes().to_be_bytes()).copied().collect();
            drop(listing(&body));
            drop(hits(&body));
            drop(snapshot(&body));
            drop(contents(Bytes::from(body), 1));
        }
    }
}
