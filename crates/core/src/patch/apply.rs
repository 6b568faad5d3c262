//! Applying what a patch says about one file.

use bytes::Bytes;

use super::error::{ApplyError, ApplyReason};
use super::hunk::{place_as_git, place_as_stated};
use super::model::{Body, ChangeKind, FilePatch, IndexLine};
use super::tree::{BlobId, FileMode, blob_id};

/// How strictly a patch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyMode {
    /// For our own patches: the index lines must name the old and the new content in full, and hunks must fit
    /// exactly where they say.
    Exact,
    /// As plain `git apply`: context must match to the byte, hunks may have moved.
    Git,
}

impl FilePatch {
    /// Applies the change to the file at [`FilePatch::old_path`], `None` where there is no file. Returns what is
    /// then at [`FilePatch::new_path`], `None` if the file goes away.
    ///
    /// # Errors
    /// The file is not what the patch expects, or the patch's data is corrupt.
    pub fn apply(
        &self,
        old: Option<(FileMode, &[u8])>,
        mode: ApplyMode,
    ) -> Result<Option<(FileMode, Bytes)>, ApplyError> {
        self.check_presence(old).map_err(|reason| self.error(None, reason))?;
        let content = old.map_or(&b""[..], |(_, content)| content);
        if mode == ApplyMode::Exact {
            self.check_old_blob(old).map_err(|reason| self.error(None, reason))?;
        }
        let result = self.new_content(content, mode)?;
        if self.kind == ChangeKind::Delete {
            return self.deleted(&result);
        }
        if mode == ApplyMode::Exact {
            self.check_new_blob(&result).map_err(|reason| self.error(None, reason))?;
        }
        let old_mode = old.map_or(FileMode::Regular, |(mode, _)| mode);
        Ok(Some((self.new_mode.unwrap_or(old_mode), result)))
    }

    pub(crate) fn error(&self, hunk: Option<usize>, reason: ApplyReason) -> ApplyError {
        ApplyError { file: String::from_utf8_lossy(self.path()).into_owned(), hunk, reason }
    }

    fn check_presence(&self, old: Option<(FileMode, &[u8])>) -> Result<(), ApplyReason> {
        match (self.kind, old) {
            (ChangeKind::Create, Some(_)) => Err(ApplyReason::Exists),
            (ChangeKind::Create, None) => Ok(()),
            (ChangeKind::Undeclared, None) if self.may_create() => Ok(()),
            (_, None) => Err(ApplyReason::Missing),
            (_, Some((found, _))) => match self.old_mode {
                Some(expected) if !expected.same_type(found) => {
                    Err(ApplyReason::WrongType { expected, found })
                }
                _ => Ok(()),
            },
        }
    }

    /// Whether a plain diff could be of a new file: one hunk that expects nothing.
    fn may_create(&self) -> bool {
        matches!(self.hunks(), [hunk] if hunk.old.length == 0)
    }

    fn new_content(&self, old: &[u8], mode: ApplyMode) -> Result<Bytes, ApplyError> {
        match &self.body {
            Body::Text(hunks) => {
                let result = match mode {
                    ApplyMode::Exact => place_as_stated(old, hunks),
                    ApplyMode::Git => place_as_git(old, hunks),
                };
                result.map_err(|(hunk, reason)| self.error(Some(hunk + 1), reason))
            }
            Body::Binary(_) | Body::BinaryWithoutData => {
                self.new_binary(old).map_err(|reason| self.error(None, reason))
            }
        }
    }

    /// Binary contents are checked by the index line in either mode, as git does.
    fn new_binary(&self, old: &[u8]) -> Result<Bytes, ApplyReason> {
        let index = self.full_index()?;
        let old_id = if self.old_path.is_some() { blob_id(old) } else { BlobId::NULL };
        check(&index.old, old_id, |expected, found| ApplyReason::OldBlob { expected, found })?;
        if is_null(&index.new) {
            return Ok(Bytes::new());
        }
        let Body::Binary(data) = &self.body else {
            return if index.old == index.new {
                Ok(Bytes::copy_from_slice(old))
            } else {
                Err(ApplyReason::NoBinaryData)
            };
        };
        let new = data.apply(old).map_err(ApplyReason::BadBinaryData)?;
        check(&index.new, blob_id(&new), |expected, found| ApplyReason::NewBlob { expected, found })?;
        Ok(new.into())
    }

    fn deleted(&self, rest: &[u8]) -> Result<Option<(FileMode, Bytes)>, ApplyError> {
        if rest.is_empty() { Ok(None) } else { Err(self.error(None, ApplyReason::ContentLeft)) }
    }

    fn full_index(&self) -> Result<&IndexLine, ApplyReason> {
        let full = |index: &&IndexLine| index.old.len() == 40 && index.new.len() == 40;
        self.index.as_ref().filter(full).ok_or(ApplyReason::NoFullIndex)
    }

    /// A pure mode change or rename has no index line: there is nothing to verify.
    fn needs_index(&self) -> bool {
        self.is_binary() || !self.hunks().is_empty() || self.index.is_some()
    }

    fn check_old_blob(&self, old: Option<(FileMode, &[u8])>) -> Result<(), ApplyReason> {
        if !self.needs_index() {
            return Ok(());
        }
        let found = old.map_or(BlobId::NULL, |(_, content)| blob_id(content));
        check(&self.full_index()?.old, found, |expected, found| ApplyReason::OldBlob { expected, found })
    }

    fn check_new_blob(&self, new: &[u8]) -> Result<(), ApplyReason> {
        if !self.needs_index() {
            return Ok(());
        }
        check(&self.full_index()?.new, blob_id(new), |expected, found| ApplyReason::NewBlob {
            expected,
            found,
        })
    }
}

fn check(
    expected: &str,
    found: BlobId,
    reason: impl Fn(String, String) -> ApplyReason,
) -> Result<(), ApplyReason> {
    let found = found.to_string();
    if expected == found { Ok(()) } else { Err(reason(expected.to_owned(), found)) }
}

fn is_null(id: &str) -> bool {
    id.bytes().all(|digit| digit == b'0')
}
