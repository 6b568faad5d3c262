//! Reads the paths that git tracks from an index file, versions 2 to 4.

/// An index file that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadIndex(pub(super) &'static str);

/// What an index holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Paths of tracked files and links, sorted, each once.
    pub(super) paths: Vec<Vec<u8>>,
    /// Name of the index that this one is a difference to, in hex.
    pub(super) shared: Option<String>,
}

const HEADER: usize = 12;
const FIXED: usize = 62;
const MODE_AT: usize = 24;
const FLAGS_AT: usize = 60;
const EXTENDED: u16 = 0x4000;
const HASH: usize = 20;

impl Index {
    /// Reads an index. Its checksum is not checked: a wrong path does no harm.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadIndex> {
        let header = bytes.first_chunk::<HEADER>().ok_or(BadIndex("shorter than its header"))?;
        if !header.starts_with(b"DIRC") {
            return Err(BadIndex("no index"));
        }
        let version = be32(&header[4..]);
        if !(2..=4).contains(&version) {
            return Err(BadIndex("of an unknown version"));
        }
        let mut index = Self::default();
        let mut rest = &bytes[HEADER..];
        let mut path = Vec::new();
        for _ in 0..be32(&header[8..]) {
            rest = entry(rest, version, &mut path, &mut index.paths)?;
        }
        index.paths.sort_unstable();
        index.paths.dedup();
        index.shared = shared_name(rest);
        Ok(index)
    }
}

/// Reads one entry: `path` is the one before, which version 4 builds on. Returns what follows.
fn entry<'a>(
    bytes: &'a [u8],
    version: u32,
    path: &mut Vec<u8>,
    paths: &mut Vec<Vec<u8>>,
) -> Result<&'a [u8], BadIndex> {
    const CUT: BadIndex = BadIndex("cut off");
    let fixed = bytes.first_chunk::<FIXED>().ok_or(CUT)?;
    let extended = version >= 3 && u16::from_be_bytes([fixed[FLAGS_AT], fixed[FLAGS_AT + 1]]) & EXTENDED != 0;
    let name_at = FIXED + if extended { 2 } else { 0 };
    let mut name = bytes.get(name_at..).ok_or(CUT)?;
    if version == 4 {
        let (strip, length) = offset(name).ok_or(CUT)?;
        path.truncate(path.len().checked_sub(strip).ok_or(BadIndex("with an impossible name"))?);
        name = &name[length..];
    } else {
        path.clear();
    }
    let length = memchr::memchr(0, name).ok_or(CUT)?;
    path.extend_from_slice(&name[..length]);
    if is_file(be32(&fixed[MODE_AT..])) && !path.is_empty() {
        paths.push(path.clone());
    }
    let end = match version {
        4 => bytes.len() - name.len() + length + 1,
        // Padded with one to eight NULs to a multiple of eight bytes.
        _ => (name_at + length) / 8 * 8 + 8,
    };
    bytes.get(end..).ok_or(CUT)
}

/// A file or a link, as opposed to a submodule or, in a sparse index, a folder.
fn is_file(mode: u32) -> bool {
    matches!(mode >> 12, 0o10 | 0o12)
}

/// Reads a number as pack files write offsets: seven bits per byte, most significant first, each carry plus one.
fn offset(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
        value = value.checked_add(1)?;
    }
    None
}

/// Finds the extension that names a shared index, among the extensions before the checksum.
fn shared_name(mut bytes: &[u8]) -> Option<String> {
    while bytes.len() > HASH {
        let (header, rest) = bytes.split_first_chunk::<8>()?;
        let length = be32(&header[4..]) as usize;
        let content = rest.get(..length)?;
        if header.starts_with(b"link") {
            let hash = content.get(..HASH).filter(|hash| hash.iter().any(|byte| *byte != 0))?;
            return Some(hash.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        bytes = &rest[length..];
    }
    None
}

/// The first four bytes as a number; the callers hand at least four.
fn be32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index with these names, each a regular file.
    fn index(version: u32, names: &[&str]) -> Vec<u8> {
        let mut bytes = b"DIRC".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(u32::try_from(names.len()).unwrap().to_be_bytes());
        let mut before = String::new();
        for name in names {
            let begin = bytes.len();
            let mut fixed = [0; FIXED];
            fixed[MODE_AT..MODE_AT + 4].copy_from_slice(&0o100_644_u32.to_be_bytes());
            bytes.extend(fixed);
            if version == 4 {
                let common = before.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
                bytes.push(u8::try_from(before.len() - common).unwrap());
                bytes.extend(name[common..].bytes().chain([0]));
                before = (*name).to_owned();
            } else {
                bytes.extend(name.bytes());
                let padding = 8 - (bytes.len() - begin) % 8;
                bytes.extend(std::iter::repeat_n(0, padding));
            }
        }
        bytes.extend([0; HASH]);
        bytes
    }

    #[test]
    fn every_version_gives_its_paths() {
        let names = ["a", "a/b", "abc/defgh", "abc/defghi", "b"];
        for version in 2..=4 {
            let parsed = Index::parse(&index(version, &names)).unwrap();
            let expected: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(parsed, Index { paths: expected, shared: None }, "version {version}");
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for version in 2..=4 {
            let whole = index(version, &["a", "abc/defgh", "b"]);
            for length in 0..whole.len() - HASH {
                assert!(Index::parse(&whole[..length]).is_err(), "version {version} cut at {length}");
            }
            for at in 0..whole.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[at] = value;
                    // Only the absence of panics and of endless loops counts.
                    drop(Index::parse(&damaged));
                }
            }
        }
        assert_eq!(Index::parse(&index(5, &[])), Err(BadIndex("of an unknown version")));
    }
}
