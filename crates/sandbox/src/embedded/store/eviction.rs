//! Removal of images that nobody uses, to make room.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Record, Store};
use crate::image_cache::{Entry, Fill, Need, excess, stored, victims};

/// What is leased while a record is put in, and had alone while records and layers are taken out.
pub(super) const CATALOGUE: &str = "catalogue";
/// What the names of layers begin with that the probe tries overlays with.
const TRIAL: &str = "trial-";

impl Store {
    /// Removes images by the water marks. Returns how many; 0 also where none may go. Blocks on the disk.
    pub(in crate::embedded) fn make_room(&self, need: Need) -> io::Result<u64> {
        let fill = Fill::of(&self.data);
        if self.marks.limit_bytes.is_none() && excess(self.marks, fill, 0, need) == 0 {
            return Ok(0);
        }
        let catalogue = self.leases.alone_blocking(CATALOGUE)?;
        let records = self.records()?;
        let entries = self.entries(&records)?;
        let excess = excess(self.marks, fill, stored(&entries), need);
        if excess == 0 {
            return Ok(0);
        }
        let gone = self.forget_records(&victims(&entries, excess))?;
        // What a killed process left that had not unpacked anything: it takes no room, and nobody will ask for it.
        let hollow = entries.iter().filter(|entry| entry.parts.is_empty() && !entry.in_use);
        let hollow: Vec<String> = hollow.map(|entry| entry.name.clone()).collect();
        let hollow = self.forget_records(&hollow)?;
        let left = records.iter().filter(|(handle, _)| !gone.contains(handle) && !hollow.contains(handle));
        let used: HashSet<&str> = left.flat_map(|(_, record)| &record.layers).map(String::as_str).collect();
        let removed = self.take_out_layers(&used)?;
        drop(catalogue);
        self.delete(removed);
        if !gone.is_empty() {
            tracing::info!(images = gone.len(), "removed images to make room");
        }
        self.meter.evicted(gone.len() as u64);
        Ok(gone.len() as u64)
    }

    fn records(&self) -> io::Result<Vec<(String, Record)>> {
        let entries = fs::read_dir(self.data.join(self.mounter.images()))?.flatten();
        let handles = entries.filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned)
        });
        Ok(handles.filter_map(|handle| Some((handle.clone(), self.read_record(&handle)?))).collect())
    }

    fn entries(&self, records: &[(String, Record)]) -> io::Result<Vec<Entry>> {
        let entry = |(handle, record): &(String, Record)| {
            let there = record.layers.iter().filter(|layer| self.layers().join(layer).is_dir());
            Ok(Entry {
                name: handle.clone(),
                base: record.base.clone(),
                parts: there.map(|layer| (layer.clone(), self.size(layer))).collect(),
                last_use: self.last_use(handle),
                in_use: self.leases.is_leased(handle)?,
            })
        };
        records.iter().map(entry).collect()
    }

    /// That of the record where nobody had a lease since it was kept, as none had before leases were known.
    fn last_use(&self, handle: &str) -> u64 {
        match self.leases.last_use(handle) {
            0 => crate::image_cache::modified(&self.record_path(handle)),
            last_use => last_use,
        }
    }

    /// Removes records of which nobody has a lease. Returns which.
    fn forget_records(&self, handles: &[String]) -> io::Result<HashSet<String>> {
        let mut gone = HashSet::new();
        for handle in handles {
            // Somebody may have come since the look at it.
            let Some(seized) = self.leases.seize(handle)? else { continue };
            fs::remove_file(self.record_path(handle))?;
            seized.forget();
            tracing::debug!(image = handle, "removed an image");
            gone.insert(handle.clone());
        }
        Ok(gone)
    }

    /// Takes the layers that no record names out of their place, whole. Returns where they are now, and their sizes.
    fn take_out_layers(&self, used: &HashSet<&str>) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(self.layers())?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if used.contains(name.as_str()) || name.starts_with(TRIAL) {
                continue;
            }
            let (size, temporary) = (self.size(&name), self.temporary());
            fs::rename(entry.path(), &temporary)?;
            fs::remove_file(self.size_path(&name)).ok();
            removed.push((temporary, size));
        }
        Ok(removed)
    }

    fn delete(&self, layers: Vec<(PathBuf, u64)>) {
        for (layer, size) in layers {
            match fs::remove_dir_all(&layer) {
                Ok(()) => self.meter.freed(size),
                // The reaper of a later start tries again.
                Err(error) => {
                    tracing::warn!(%error, layer = %layer.display(), "a layer that nobody uses stays");
                }
            }
        }
    }

    /// Bytes of a layer: as noted when it was made, else as they are now.
    fn size(&self, layer: &str) -> u64 {
        let noted = fs::read_to_string(self.size_path(layer)).ok().and_then(|text| text.trim().parse().ok());
        noted.unwrap_or_else(|| {
            let size = bytes_below(&self.layers().join(layer));
            self.note_size(layer, size);
            size
        })
    }

    /// Without the note the layer is measured once more.
    pub(super) fn note_size(&self, layer: &str, bytes: u64) {
        let temporary = self.temporary();
        let noted = fs::write(&temporary, bytes.to_string())
            .and_then(|()| fs::rename(&temporary, self.size_path(layer)));
        if let Err(error) = noted {
            tracing::debug!(%error, layer, "the size of a layer is not noted");
            fs::remove_file(&temporary).ok();
        }
    }

    fn size_path(&self, layer: &str) -> PathBuf {
        self.data.join("sizes").join(self.mounter.layers()).join(layer)
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
        _ => entry.metadata().map_or(0, |found| found.len()),
    });
    sizes.sum()
}
