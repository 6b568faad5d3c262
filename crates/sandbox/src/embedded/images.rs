//! The caller's folder of images, indexed by reference.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::archive::{Source, StoredImage, stamp};
use super::reference::normal;
use crate::SandboxError;

type Stamps = Vec<(PathBuf, u64, SystemTime)>;

/// Finds images by reference.
pub(super) struct Images {
    folder: Option<PathBuf>,
    index: Mutex<References>,
}

/// The index, and what the folder looked like when it was made.
#[derive(Default)]
struct References {
    stamps: Stamps,
    by_name: HashMap<String, StoredImage>,
}

impl Images {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, index: Mutex::default() }
    }

    /// Looks a reference up. The folder is read once, and again where a reference is missing and the folder changed.
    /// Blocks on the disk.
    pub(super) fn find(&self, reference: &str) -> Result<StoredImage, SandboxError> {
        let missing = |message: String| SandboxError::NoImage { image: reference.to_owned(), message };
        let Some(folder) = &self.folder else {
            return Err(missing("the job names no folder of images (sandbox.images)".into()));
        };
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = normal(reference);
        if !index.by_name.contains_key(&wanted) {
            let entries =
                fs::read_dir(folder).map_err(|error| missing(format!("{}: {error}", folder.display())))?;
            let mut stamps: Stamps = entries.flatten().filter_map(|entry| stamp(&entry.path())).collect();
            stamps.sort();
            if stamps != index.stamps {
                *index = References { by_name: read_all(&stamps), stamps };
            }
        }
        let found = index.by_name.get(&wanted).cloned();
        found.ok_or_else(|| missing(format!("none of the archives in {} has it", folder.display())))
    }
}

fn read_all(stamps: &Stamps) -> HashMap<String, StoredImage> {
    let mut by_name = HashMap::new();
    for (path, _, _) in stamps {
        match Source::open(path)
            .and_then(|source| source.map_or(Ok(Vec::new()), |source| Arc::new(source).images()))
        {
            Ok(images) => images.into_iter().for_each(|image| enter(image, &mut by_name)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an archive of images cannot be read")
            }
        }
    }
    by_name
}

/// Under its names, and under its names' repositories with each of its digests.
fn enter(image: StoredImage, by_name: &mut HashMap<String, StoredImage>) {
    for name in &image.names {
        let name = normal(name);
        let repository = match name.rsplit_once(':') {
            Some((front, tag)) if !tag.contains('/') => front.to_owned(),
            _ => name.clone(),
        };
        for digest in image.digests.iter().chain([&image.digest]) {
            by_name.insert(format!("{repository}@{digest}"), image.clone());
        }
        by_name.insert(name, image.clone());
    }
}
