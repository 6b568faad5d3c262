//! The secret that runner and guest share, and the codes made with it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

const BYTES: usize = 32;
const BLOCK: usize = 64;

/// A secret of 256 bits. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Key([u8; BYTES]);

/// The SHA-256 of a [`Key`], which anybody may know. Its text is lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; BYTES]);

impl Key {
    /// Takes random bytes for a key.
    pub fn new(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns its hash.
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0).into())
    }

    pub(super) fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// HMAC-SHA-256 over the parts in order. They must have fixed lengths, or lengths within.
    pub(super) fn code(&self, parts: &[&[u8]]) -> [u8; BYTES] {
        let pad = |with: u8| {
            let mut block = [with; BLOCK];
            block.iter_mut().zip(self.0).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let mut inner = Sha256::new_with_prefix(pad(0x36));
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = Sha256::new_with_prefix(pad(0x5c));
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for KeyHash {
    type Err = ();

    /// Takes exactly 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 2 * BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut hash = [0; BYTES];
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(drop)?;
        }
        Ok(Self(hash))
    }
}

/// Compares in a time that does not tell where the first difference is.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right));
    left.len() == right.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_hmac_sha_256() {
        // Test case 2 of RFC 4231, whose key is "Jefe" filled up with zeros.
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(b"Jefe");
        let code = Key::new(bytes).code(&[b"what do ya want ", b"for nothing?"]);
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = Key::new([7; BYTES]).hash();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<KeyHash>(), Err(()), "{text}");
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        assert_eq!(format!("{:?}", Key::new([7; BYTES])), "Key(..)");
    }

    #[test]
    fn bytes_of_different_length_differ() {
        assert!(same(b"ab", b"ab"));
        assert!(!same(b"ab", b"abc") && !same(b"ab", b"ac") && !same(b"", b"a"));
    }
}
