//! Applying a whole patch: its files see each other's effects as under `git apply`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::apply::ApplyMode;
use super::error::{ApplyError, ApplyReason};
use super::model::{ChangeKind, FilePatch, Patch};
use super::tree::FileMode;

/// What a patch leaves at a path: `None` is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: Vec<u8>,
    /// What is there afterwards.
    pub new: Option<(FileMode, Bytes)>,
}

impl Patch {
    /// The paths whose content is needed to apply the patch, sorted; some may not exist.
    pub fn paths(&self) -> BTreeSet<&[u8]> {
        self.files.iter().flat_map(|file| [file.old_path(), file.new_path()]).flatten().collect()
    }

    /// Applies the whole patch, or nothing. `read` gives the content before the patch; the result names each
    /// path that the patch touches once, sorted.
    ///
    /// A file that occurs twice is changed twice, in order; a rename or copy always starts from the content
    /// before the patch, so two files can swap their names.
    ///
    /// # Errors
    /// The first change that does not apply.
    pub fn apply(
        &self,
        mode: ApplyMode,
        read: impl Fn(&[u8]) -> Option<(FileMode, Bytes)>,
    ) -> Result<Vec<Change>, ApplyError> {
        let mut states = States { read, touched: BTreeMap::new(), leaving: leaving(&self.files) };
        for file in &self.files {
            states.apply(file, mode)?;
        }
        Ok(states.touched.into_iter().map(|(path, new)| Change { path: path.to_vec(), new }).collect())
    }
}

/// Paths that some part of the patch renames or deletes: another part may put a new file there before.
fn leaving(files: &[FilePatch]) -> BTreeSet<&[u8]> {
    let leaves = |file: &&FilePatch| matches!(file.kind, ChangeKind::Delete | ChangeKind::Rename);
    files.iter().filter(leaves).filter_map(FilePatch::old_path).collect()
}

struct States<'p, R> {
    read: R,
    touched: BTreeMap<&'p [u8], Option<(FileMode, Bytes)>>,
    leaving: BTreeSet<&'p [u8]>,
}

impl<'p, R: Fn(&[u8]) -> Option<(FileMode, Bytes)>> States<'p, R> {
    fn apply(&mut self, file: &'p FilePatch, mode: ApplyMode) -> Result<(), ApplyError> {
        let old = self.old(file).map_err(|reason| file.error(None, reason))?;
        self.check_target(file).map_err(|reason| file.error(None, reason))?;
        let old = old.as_ref().map(|(mode, content)| (*mode, &content[..]));
        let new = file.apply(old, mode)?;
        self.remove_old(file);
        if let Some(new_path) = file.new_path() {
            self.touched.insert(new_path, new);
        }
        Ok(())
    }

    /// A rename took the original away; what another part has put there since stays.
    fn remove_old(&mut self, file: &'p FilePatch) {
        match (file.kind, file.old_path()) {
            (ChangeKind::Delete, Some(path)) => {
                self.touched.insert(path, None);
            }
            // Two names in the header without a word of a rename: git moves the file all the same.
            (ChangeKind::Modify, Some(path)) if file.new_path() != Some(path) => {
                self.touched.insert(path, None);
            }
            (ChangeKind::Rename, Some(path)) => {
                self.touched.entry(path).or_insert(None);
            }
            _ => {}
        }
    }

    fn old(&self, file: &FilePatch) -> Result<Option<(FileMode, Bytes)>, ApplyReason> {
        let Some(path) = file.old_path() else {
            return Ok(None);
        };
        let reads_original = matches!(file.kind, ChangeKind::Rename | ChangeKind::Copy);
        match self.touched.get(path) {
            Some(None) if !reads_original => Err(ApplyReason::Gone),
            Some(Some(state)) if !reads_original => Ok(Some(state.clone())),
            _ => Ok((self.read)(path)),
        }
    }

    /// A file must not be made where one is, unless that one leaves.
    fn check_target(&self, file: &FilePatch) -> Result<(), ApplyReason> {
        let makes = matches!(file.kind, ChangeKind::Create | ChangeKind::Rename | ChangeKind::Copy);
        let Some(path) = file.new_path().filter(|_| makes) else {
            return Ok(());
        };
        let leaves = self.leaving.contains(path) || matches!(self.touched.get(path), Some(None));
        if !leaves && (self.read)(path).is_some() { Err(ApplyReason::Exists) } else { Ok(()) }
    }
}
