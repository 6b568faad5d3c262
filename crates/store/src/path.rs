//! Paths of objects.

use std::borrow::Borrow;
use std::fmt;

/// The path of an object: segments joined by `/`.
///
/// Segments are not empty, do not begin with a dot (so that a local directory can keep files of its own beside the
/// objects, and `..` cannot leave it) and hold no control characters. No object's path is a folder of another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

/// Why a text is no path of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object path")]
pub struct InvalidPath(String);

impl ObjectPath {
    /// Checks `text` and wraps it.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidPath> {
        let text = text.into();
        let valid = |segment: &str| {
            !segment.is_empty() && !segment.starts_with('.') && !segment.contains(char::is_control)
        };
        if text.split('/').all(valid) { Ok(Self(text)) } else { Err(InvalidPath(text)) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().expect("a split yields at least one piece")
    }
}

/// Paths are ordered as their text is, so maps of them can be searched by text.
impl Borrow<str> for ObjectPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_are_taken() {
        for good in ["a", "a/b.parquet", "runs/x y/é"] {
            assert_eq!(ObjectPath::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".tmp/a", "a\n", "a/\0"] {
            assert!(ObjectPath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ObjectPath::parse("a/b/c").unwrap().name(), "c");
    }
}
