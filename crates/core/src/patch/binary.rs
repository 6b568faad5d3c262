//! The two forms of binary patch data, both deflated: a literal is the whole content, a delta rebuilds it from
//! the old content by copies and insertions (the delta format of git's packs).

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

/// Most bytes that are set aside before anything has been read: a patch's sizes are only claims.
const TRUSTED_SIZE: u64 = 1 << 20;

/// One direction of a `GIT binary patch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BinaryHunk {
    pub(crate) method: Method,
    /// Bytes of the data once inflated.
    pub(crate) size: u64,
    /// The deflated data.
    pub(crate) deflated: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Literal,
    Delta,
}

impl BinaryHunk {
    /// Rebuilds the new content; the error says what is wrong with the data.
    pub(crate) fn apply(&self, old: &[u8]) -> Result<Vec<u8>, &'static str> {
        let data = self.inflate()?;
        match self.method {
            Method::Literal => Ok(data),
            Method::Delta => apply_delta(old, &data).ok_or("the delta does not fit the old content"),
        }
    }

    fn inflate(&self) -> Result<Vec<u8>, &'static str> {
        let mut data = Vec::with_capacity(self.size.min(TRUSTED_SIZE) as usize);
        let mut decoder = ZlibDecoder::new(&self.deflated[..]).take(self.size.saturating_add(1));
        decoder.read_to_end(&mut data).map_err(|_| "the data cannot be inflated")?;
        if data.len() as u64 == self.size { Ok(data) } else { Err("the data has another size than it says") }
    }
}

/// Deflates a literal.
pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("writing to a Vec cannot fail")
}

/// Follows the instructions of `delta`; `None` if they are malformed or leave the old content.
fn apply_delta(old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut delta = delta.iter().copied();
    if size(&mut delta)? != old.len() as u64 {
        return None;
    }
    let new_size = size(&mut delta)?;
    let mut new = Vec::with_capacity(new_size.min(TRUSTED_SIZE) as usize);
    while let Some(code) = delta.next() {
        match code {
            0 => return None,
            1..=0x7f => {
                let before = new.len();
                new.extend(delta.by_ref().take(code as usize));
                if new.len() - before != code as usize {
                    return None;
                }
            }
            _ => new.extend_from_slice(copied(old, code, &mut delta)?),
        }
        if new.len() as u64 > new_size {
            return None;
        }
    }
    (new.len() as u64 == new_size).then_some(new)
}

/// Reads a size: seven bits per byte, least significant first.
fn size(delta: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = delta.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads a copy instruction: the low seven bits of `code` say which bytes of offset and length follow.
fn copied<'a>(old: &'a [u8], code: u8, delta: &mut impl Iterator<Item = u8>) -> Option<&'a [u8]> {
    let mut value = 0u64;
    for bit in 0..7 {
        if code & (1 << bit) != 0 {
            value |= u64::from(delta.next()?) << (8 * bit);
        }
    }
    let (offset, length) = (value as u32 as usize, (value >> 32) as usize);
    let length = if length == 0 { 0x10000 } else { length };
    old.get(offset..)?.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_copy_and_insert() {
        let old = b"hello world";
        let cases: [(&[u8], Option<&[u8]>); 7] = [
            (&[11, 5, 0x90, 5], Some(b"hello")),
            (&[11, 8, 0x91, 6, 5, 3, b'x', b'y', b'z'], Some(b"worldxyz")),
            (&[11, 5, 0x91, 7, 5], None),
            (&[10, 5, 0x90, 5], None),
            (&[11, 6, 0x90, 5], None),
            (&[11, 3, 3, b'x'], None),
            (&[11, 1, 0], None),
        ];
        for (delta, expected) in cases {
            assert_eq!(apply_delta(old, delta).as_deref(), expected, "{delta:?}");
        }
    }

    #[test]
    fn an_absent_length_means_65536() {
        let old = vec![7; 70_000];
        let delta = [0xf0, 0xa2, 0x04, 0x80, 0x80, 0x04, 0x80];
        assert_eq!(apply_delta(&old, &delta).unwrap().len(), 65_536);
    }

    #[test]
    fn a_size_that_lies_is_refused() {
        let hunk = |size| BinaryHunk { method: Method::Literal, size, deflated: deflate(&[0; 1000]) };
        assert_eq!(hunk(1000).apply(b"").unwrap(), [0; 1000]);
        assert!(hunk(999).apply(b"").is_err() && hunk(u64::MAX).apply(b"").is_err());
    }
}
