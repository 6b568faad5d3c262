//! The images of the daemon that are ours to remove: those that we pulled or derived, which an index beside the locks
//! names. What a person pulled, built or imported is never in it, and neither is what processes with another index use.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::engine::{CallError, Engine};
use super::image::inspect;
use crate::image_cache::{
    Entry, Fill, Had, Lease, Leases, Meter, Need, Seized, WaterMarks, excess, stored, victims,
};
use crate::{SandboxError, error};

/// Which process removes images at the moment.
const SWEEP: &str = "sweep";

/// The images of one daemon, as far as they are ours.
pub(super) struct Cache {
    index: PathBuf,
    leases: Leases,
    marks: WaterMarks,
    pub(super) meter: Meter,
    /// Where the daemon keeps images, if that can be seen from here.
    root_dir: Option<PathBuf>,
    temporaries: AtomicU64,
}

/// A reference that was not on the node before we pulled or derived it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    reference: String,
    /// The image's id; none while it is being made.
    id: Option<String>,
}

/// An image of ours: what it is known by, and what it is for the decision.
struct Ours {
    references: Vec<String>,
    entry: Entry,
}

impl Cache {
    /// Opens the index of the daemon called `daemon` below `folder`, which all processes that use it should share.
    pub(super) fn open(
        folder: &std::path::Path,
        daemon: &str,
        marks: WaterMarks,
        root_dir: Option<PathBuf>,
    ) -> Result<Self, SandboxError> {
        let folder = folder.join(&hash(daemon)[..16]);
        let index = folder.join("ours");
        let opened = fs::create_dir_all(&index).and_then(|()| Leases::open(folder.join("leases")));
        let leases = opened.map_err(|error| os("open the index of pulled images", error))?;
        let temporaries = AtomicU64::new(0);
        Ok(Self { index, leases, marks, meter: Meter::default(), root_dir, temporaries })
    }

    /// Leases the image `id`. Unless this process had it already, it is to be looked at once more.
    pub(super) async fn lease(&self, id: &str) -> Result<(Lease, Had), SandboxError> {
        self.leases.lease(id).await.map_err(|error| os("lease an image", error))
    }

    /// Keeps every other process from making what `reference` names.
    pub(super) async fn alone(&self, reference: &str) -> Result<Seized, SandboxError> {
        self.leases.alone(&making(reference)).await.map_err(|error| os("lock an image", error))
    }

    /// Notes that `reference` is ours: before it is made, and once more with what it became.
    pub(super) fn note(&self, reference: &str, id: Option<&str>) -> Result<(), SandboxError> {
        let known = Known { reference: reference.to_owned(), id: id.map(str::to_owned) };
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.index.join(format!("{}.{number}.tmp", std::process::id()));
        let text = serde_json::to_vec(&known).expect("it is plain strings");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, self.path(reference)));
        written.map_err(|error| {
            fs::remove_file(&temporary).ok();
            os("note an image", error)
        })
    }

    /// Whether `reference` is ours.
    pub(super) fn has(&self, reference: &str) -> bool {
        self.path(reference).exists()
    }

    /// Forgets that `reference` is ours.
    pub(super) fn forget(&self, reference: &str) {
        fs::remove_file(self.path(reference)).ok();
    }

    /// Removes what is above the water marks, before or after something is added.
    pub(super) async fn keep_marks(&self, engine: &Engine) {
        self.make_room(engine, Need::Growth).await;
    }

    /// Whether images could be removed after something failed for want of room: then it is worth another try.
    pub(super) async fn found_room(&self, engine: &Engine, why: &str) -> bool {
        let removed = self.make_room(engine, Need::Failure).await;
        tracing::info!(removed, why, "the disk is full");
        removed > 0
    }

    async fn make_room(&self, engine: &Engine, need: Need) -> u64 {
        self.sweep(engine, need).await.unwrap_or_else(|error| {
            tracing::warn!(error = error::chain(&error), "no room was made");
            0
        })
    }

    /// Removes images; returns how many.
    async fn sweep(&self, engine: &Engine, need: Need) -> Result<u64, SandboxError> {
        let fill = self.root_dir.as_deref().and_then(Fill::of);
        if self.marks.limit_bytes.is_none() && excess(self.marks, fill, 0, need) == 0 {
            return Ok(0);
        }
        let Some(_sweeping) = self.sweeping(need).await.map_err(|error| os("lock the index", error))? else {
            return Ok(0);
        };
        let ours = self.ours(engine).await?;
        let entries: Vec<Entry> = ours.values().map(|ours| ours.entry.clone()).collect();
        let excess = excess(self.marks, fill, stored(&entries), need);
        let mut removed = 0;
        for id in victims(&entries, excess) {
            removed += u64::from(self.evict(engine, &ours[&id]).await?);
        }
        Ok(removed)
    }

    /// The right to remove images. That another process is about it is as good, unless room is needed for sure.
    async fn sweeping(&self, need: Need) -> io::Result<Option<Seized>> {
        match need {
            Need::Growth => self.leases.seize(SWEEP),
            Need::Failure => self.leases.alone(SWEEP).await.map(Some),
        }
    }

    /// Removes an image under all of its references that are ours, unless somebody uses it.
    async fn evict(&self, engine: &Engine, ours: &Ours) -> Result<bool, SandboxError> {
        let id = &ours.entry.name;
        let seized = self.leases.seize(id).map_err(|error| os("lock an image", error))?;
        // Somebody may have come since the look at it.
        let Some(seized) = seized else { return Ok(false) };
        for reference in &ours.references {
            let found = inspect(engine, reference).await?;
            // A person may have given the tag to another image meanwhile, which is theirs.
            if found.is_some_and(|found| found.id.as_ref() == Some(id))
                && !self.remove(engine, reference, ours).await?
            {
                return Ok(false);
            }
            self.forget(reference);
        }
        seized.forget();
        self.meter.evicted(1);
        tracing::info!(image = ?ours.references, id, "removed an image to make room");
        Ok(true)
    }

    /// Removes one reference, and with the last one the image. False where the daemon says that it is in use.
    async fn remove(&self, engine: &Engine, reference: &str, ours: &Ours) -> Result<bool, SandboxError> {
        let call = engine.api.remove_image(reference, None::<RemoveImageOptions>, None);
        match engine.call(call).await {
            Ok(done) => {
                if done.iter().any(|item| item.deleted.as_ref() == Some(&ours.entry.name)) {
                    self.meter.freed(ours.entry.parts.iter().map(|(_, bytes)| bytes).sum());
                }
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(true),
            Err(CallError::Refused { status: 409, message }) => {
                tracing::debug!(image = reference, message, "an image is in use");
                Ok(false)
            }
            Err(error) => Err(engine.error("remove an image", error)),
        }
    }

    /// Our images on the daemon, by id.
    async fn ours(&self, engine: &Engine) -> Result<HashMap<String, Ours>, SandboxError> {
        let there = images(engine).await?;
        let mut references: HashMap<String, Vec<String>> = HashMap::new();
        for (reference, id) in self.known(engine).await? {
            match there.contains_key(&id) {
                true => references.entry(id).or_default().push(reference),
                false => self.forget(&reference),
            }
        }
        let busy = images_of_containers(engine).await?;
        let ours = references.into_iter().map(|(id, references)| {
            let entry = self.entry(&there, &id, busy.contains(&id))?;
            Ok((id, Ours { references, entry }))
        });
        ours.collect::<io::Result<_>>().map_err(|error| os("look at the leases of images", error))
    }

    fn entry(&self, there: &HashMap<String, ImageSummary>, id: &str, busy: bool) -> io::Result<Entry> {
        let image = &there[id];
        let base = there.get(&image.parent_id);
        let below = base.map_or(0, |base| base.size);
        let own = u64::try_from(image.size.saturating_sub(below)).unwrap_or(0);
        let created = u64::try_from(image.created).unwrap_or(0).saturating_mul(1_000_000_000);
        let last_use = match self.leases.last_use(id) {
            0 => created,
            last_use => last_use,
        };
        Ok(Entry {
            name: id.to_owned(),
            base: base.map(|base| base.id.clone()),
            parts: vec![(id.to_owned(), own)],
            last_use,
            in_use: busy || self.leases.is_leased(id)?,
        })
    }

    /// What the index names, and the ids. What a killed process was making is looked up, and entered or forgotten.
    async fn known(&self, engine: &Engine) -> Result<Vec<(String, String)>, SandboxError> {
        let mut all = Vec::new();
        for Known { reference, id } in self.index().map_err(|error| os("read the index", error))? {
            if let Some(id) = id {
                all.push((reference, id));
                continue;
            }
            let alone = self.leases.seize(&making(&reference));
            let Some(_alone) = alone.map_err(|error| os("lock an image", error))? else { continue };
            match inspect(engine, &reference).await?.and_then(|image| image.id) {
                Some(id) => {
                    self.note(&reference, Some(&id))?;
                    all.push((reference, id));
                }
                None => self.forget(&reference),
            }
        }
        Ok(all)
    }

    fn index(&self) -> io::Result<Vec<Known>> {
        let files = fs::read_dir(&self.index)?.flatten().map(|entry| entry.path());
        let records = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        Ok(records.filter_map(read).collect())
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.index.join(format!("{}.json", &hash(reference)[..32]))
    }
}

/// The lock under which what a reference names is made.
fn making(reference: &str) -> String {
    format!("make {reference}")
}

/// All images of the daemon, by id: also those without a name, which others were made from.
async fn images(engine: &Engine) -> Result<HashMap<String, ImageSummary>, SandboxError> {
    let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
    let call = engine.api.list_images(Some(options));
    let images = engine.call(call).await.map_err(|error| engine.error("list images", error))?;
    Ok(images.into_iter().map(|image| (image.id.clone(), image)).collect())
}

async fn images_of_containers(engine: &Engine) -> Result<HashSet<String>, SandboxError> {
    let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let call = engine.api.list_containers(Some(options));
    let containers = engine.call(call).await.map_err(|error| engine.error("list containers", error))?;
    Ok(containers.into_iter().filter_map(|container| container.image_id).collect())
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn os(action: &str, source: io::Error) -> SandboxError {
    SandboxError::Os { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_outlives_its_process_and_what_was_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let open = |daemon| Cache::open(folder.path(), daemon, WaterMarks::default(), None).unwrap();
        let cache = open("one");
        cache.note("x:1", None).unwrap();
        cache.note("x:1", Some("sha256:a")).unwrap();
        cache.note("y:1", None).unwrap();
        fs::write(cache.index.join("1.0.tmp"), "{").unwrap();
        let mut found = open("one").index().unwrap();
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        let known = |reference: &str, id: Option<&str>| Known {
            reference: reference.into(),
            id: id.map(str::to_owned),
        };
        assert_eq!(found, [known("x:1", Some("sha256:a")), known("y:1", None)]);
        assert!(cache.has("x:1") && !cache.has("z:1"));
        cache.forget("x:1");
        assert!(!cache.has("x:1"));
        assert!(open("another daemon").index().unwrap().is_empty());
    }
}
