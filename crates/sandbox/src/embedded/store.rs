//! The content-addressed layer store under the data folder.
//!
//! A layer is a folder named by its content, made under a temporary name and renamed when it is whole: a kill leaves
//! no half layer, only a temporary one that the reaper of a later start removes.
//!
//! A record names an image's layers, and comes before them: from then on nobody removes a layer of it. So an image is
//! there once its record and all its layers are. Who makes or uses it has a lease of its handle meanwhile.

pub(super) mod eviction;
pub(super) mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archive::{StoredImage, broken};
use super::live::{Fate, Live};
use super::mounter::Mounter;
use super::oci::Config;
use super::{tree, unpack};
use crate::image_cache::{Lease, Leases, Meter, WaterMarks};

/// Letters of a layer's name: short, so that over 90 layers fit into a mount's options.
const NAME_LENGTH: usize = 40;

/// Layers and image records in a data folder.
pub(super) struct Store {
    data: PathBuf,
    mounter: Mounter,
    live: Arc<Live>,
    leases: Leases,
    marks: WaterMarks,
    pub(super) meter: Meter,
    temporaries: AtomicU64,
}

/// What is known of an image whose layers are all there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Layer names, topmost first.
    pub(super) layers: Vec<String>,
    /// Digest of the image.
    pub(super) digest: String,
    /// Variables that the image sets.
    pub(super) env: BTreeMap<String, String>,
    /// Handle of what it was derived from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<String>,
}

/// An image that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) handle: String,
    pub(super) record: Record,
    /// Bytes that had to be unpacked.
    pub(super) unpacked: u64,
    pub(super) lease: Lease,
}

impl Store {
    /// Opens or makes a store of layers for `mounter`, from which images are removed by `marks`.
    pub(super) fn open(
        data: &Path,
        live: Arc<Live>,
        mounter: Mounter,
        marks: WaterMarks,
    ) -> io::Result<Self> {
        for folder in [mounter.layers(), mounter.images(), "tmp", "mnt"] {
            fs::create_dir_all(data.join(folder))?;
        }
        let leases = Leases::open(data.join("leases").join(mounter.images()))?;
        fs::create_dir_all(data.join("sizes").join(mounter.layers()))?;
        // Root of a sandbox may be somebody else outside, and has to find the layers in it.
        let layers = data.join(mounter.layers());
        fs::set_permissions(layers, fs::Permissions::from_mode(0o755))?;
        let (data, meter, temporaries) = (data.to_owned(), Meter::default(), AtomicU64::new(0));
        Ok(Self { data, mounter, live, leases, marks, meter, temporaries })
    }

    /// The folder of the layers.
    pub(super) fn layers(&self) -> PathBuf {
        self.data.join(self.mounter.layers())
    }

    /// An empty folder for sandboxes to mount on.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.data.join("mnt")
    }

    /// Reads a record back; `None` if there is none or a layer of it is missing.
    pub(super) fn record(&self, handle: &str) -> Option<Record> {
        self.read_record(handle).filter(|record| self.is_whole(record))
    }

    fn read_record(&self, handle: &str) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record_path(handle)).ok()?).ok()
    }

    fn is_whole(&self, record: &Record) -> bool {
        record.layers.iter().all(|layer| self.layers().join(layer).is_dir())
    }

    /// As [`Store::record`], with a lease, so that it stays.
    pub(super) fn lease(&self, handle: &str) -> io::Result<Option<(Record, Lease)>> {
        if self.record(handle).is_none() {
            return Ok(None);
        }
        let (lease, _) = self.leases.lease_blocking(handle)?;
        Ok(self.record(handle).map(|record| (record, lease)))
    }

    /// Leases an image that is about to be made, and what of its layers is there. To be asked before anybody looks
    /// which of them are.
    pub(super) fn claim(&self, handle: &str, record: &Record) -> io::Result<Lease> {
        // Whoever removes layers has the catalogue alone, and so sees the record, or is done before it is kept.
        let _catalogue = self.leases.lease_blocking(eviction::CATALOGUE)?;
        let (lease, _) = self.leases.lease_blocking(handle)?;
        if self.read_record(handle).as_ref() != Some(record) {
            self.keep(handle, record)?;
        }
        Ok(lease)
    }

    /// As [`Store::claim`], for an image with this configuration.
    pub(super) fn claim_image(&self, config: &[u8], digest: &str) -> io::Result<Lease> {
        let parsed = serde_json::from_slice(config).map_err(|error| broken(error.to_string()))?;
        self.claim(&hex(&Sha256::digest(config)), &image_record(&parsed, digest)?)
    }

    fn record_path(&self, handle: &str) -> PathBuf {
        self.data.join(self.mounter.images()).join(format!("{handle}.json"))
    }

    fn keep(&self, handle: &str, record: &Record) -> io::Result<()> {
        let temporary = self.temporary();
        fs::write(&temporary, serde_json::to_vec(record)?)?;
        fs::rename(temporary, self.record_path(handle))
    }

    /// Whether a layer, given by the hash of its unpacked archive, is there.
    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        layer_name(diff_id).is_ok_and(|name| self.layers().join(name).is_dir())
    }

    /// Whether all layers of the image with this configuration are there, here or, by their places from the lowest up,
    /// elsewhere.
    pub(super) fn has_image(&self, config: &[u8], elsewhere: impl Fn(usize) -> bool) -> bool {
        let diff_ids = |config: Config| config.rootfs.diff_ids.unwrap_or_default();
        let diff_ids = serde_json::from_slice(config).map(diff_ids);
        let is_there = |(at, diff_id): (usize, &String)| self.has_layer(diff_id) || elsewhere(at);
        diff_ids.is_ok_and(|diff_ids| diff_ids.iter().enumerate().all(is_there))
    }

    /// Unpacks an image's missing layers.
    pub(super) fn add_image(&self, image: &StoredImage) -> io::Result<Added> {
        let mut bytes = Vec::new();
        image.source.file(&image.config)?.read_to_end(&mut bytes)?;
        let handle = hex(&Sha256::digest(&bytes));
        let config: Config =
            serde_json::from_slice(&bytes).map_err(|error| broken(format!("{}: {error}", image.config)))?;
        let record = image_record(&config, &image.digest)?;
        let lease = self.claim(&handle, &record)?;
        let unpacked = match self.is_whole(&record) {
            true => 0,
            false => self.alone_with(&handle, || self.add_layers(image, &config))?,
        };
        Ok(Added { handle, record, unpacked, lease })
    }

    /// Does `work` while no other process does the same for `handle`.
    fn alone_with<T>(&self, handle: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let alone = self.leases.alone_blocking(&format!("make {handle}"))?;
        let done = work();
        alone.forget();
        done
    }

    fn add_layers(&self, image: &StoredImage, config: &Config) -> io::Result<u64> {
        let diff_ids = config.rootfs.diff_ids.as_deref().unwrap_or_default();
        if diff_ids.len() != image.layers.len() {
            return Err(broken(format!(
                "{} layers, but {} in its configuration",
                image.layers.len(),
                diff_ids.len()
            )));
        }
        let mut unpacked = 0;
        for (diff_id, file) in diff_ids.iter().zip(&image.layers) {
            let name = layer_name(diff_id)?;
            unpacked += self.add_layer(&name, |folder| self.unpack_layer(image, file, diff_id, folder))?;
        }
        Ok(unpacked)
    }

    /// Keeps the tree that a sandbox wrote as a layer over `base`.
    pub(super) fn add_derived(
        &self,
        handle: &str,
        base: (&str, Record),
        written: &Path,
    ) -> io::Result<(Record, Lease)> {
        let name: String = format!("d{handle}").chars().take(NAME_LENGTH).collect();
        let (base, under) = base;
        let layers = [vec![name.clone()], under.layers].concat();
        let record = Record { layers, base: Some(base.to_owned()), ..under };
        let lease = self.claim(handle, &record)?;
        self.add_layer(&name, |folder| tree::copy(written, folder))?;
        Ok((record, lease))
    }

    /// Unpacks a layer, plain or compressed, and checks that it is what its hash says.
    fn unpack_layer(&self, image: &StoredImage, file: &str, diff_id: &str, folder: &Path) -> io::Result<u64> {
        let mut stream =
            Hashing { inner: decompressed(image.source.file(file)?)?, hash: Sha256::new(), bytes: 0 };
        unpack::unpack(&mut stream, folder, self.mounter)?;
        // The hash is over the padding, too, which the archive's reader leaves.
        io::copy(&mut stream, &mut io::sink())?;
        let found = format!("sha256:{}", hex(&stream.hash.finalize()));
        if found != diff_id {
            return Err(broken(format!("layer {file} has the hash {found} instead of {diff_id}")));
        }
        Ok(stream.bytes)
    }

    /// Two layers, topmost first, of which the upper hides a file and a folder's content of the lower.
    pub(super) fn add_trial(&self) -> io::Result<Vec<String>> {
        for (name, archive) in [("trial-low", trial::low()?), ("trial-high", trial::high()?)] {
            self.add_layer(name, |folder| unpack::unpack(&archive[..], folder, self.mounter).map(|()| 0))?;
        }
        Ok(vec!["trial-high".into(), "trial-low".into()])
    }

    /// Makes the layer `name` by `fill` unless it is there. Whoever is first wins, also between processes.
    fn add_layer(&self, name: &str, fill: impl FnOnce(&Path) -> io::Result<u64>) -> io::Result<u64> {
        let place = self.layers().join(name);
        if place.is_dir() {
            return Ok(0);
        }
        let temporary = self.temporary();
        fs::create_dir(&temporary)?;
        rustix::fs::chmod(&temporary, rustix::fs::Mode::from_raw_mode(0o755))?;
        let root = self.mounter.first_id();
        if root > 0 {
            std::os::unix::fs::chown(&temporary, Some(root), Some(root))?;
        }
        let filled = fill(&temporary).and_then(|bytes| match fs::rename(&temporary, &place) {
            Err(_) if place.is_dir() => Ok(0),
            other => other.map(|()| bytes),
        });
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        let bytes = filled?;
        if bytes > 0 {
            self.note_size(name, bytes);
        }
        Ok(bytes)
    }

    /// A path of its own for something in the making, which a reaper removes where this process dies.
    pub(super) fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.data.join("tmp").join(format!("{}.{number}", self.live.name()))
    }
}

/// Removes what dead processes left half made below `folder`, whose entries are named `<incarnation>.<number>`.
/// Returns how many there were.
pub(crate) fn reap_entries(data: &Path, folder: &str) -> usize {
    let entries = fs::read_dir(data.join(folder)).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_orphan(data, &entry.file_name().to_string_lossy()) && remove(&entry.path()))
        .count()
}

/// Whether `folder` has entries of the process called `incarnation`.
pub(crate) fn has_entries(data: &Path, folder: &str, incarnation: &str) -> bool {
    let entries = fs::read_dir(data.join(folder)).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().split('.').next() == Some(incarnation))
}

fn is_orphan(data: &Path, name: &str) -> bool {
    let incarnation = name.split('.').next().unwrap_or_default();
    matches!(Live::fate(data, incarnation), Fate::Dead(_))
}

fn remove(path: &Path) -> bool {
    fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)).is_ok()
}

/// The record of an image with this configuration.
fn image_record(config: &Config, digest: &str) -> io::Result<Record> {
    let mut layers = Vec::new();
    for diff_id in config.rootfs.diff_ids.iter().flatten() {
        let name = layer_name(diff_id)?;
        // A layer that comes twice counts at its upper place; overlays refuse one that is named twice.
        layers.retain(|lower| *lower != name);
        layers.push(name);
    }
    layers.reverse();
    Ok(Record { layers, digest: digest.to_owned(), env: config.env(), base: None })
}

/// The name of the layer with this hash over its unpacked archive.
fn layer_name(diff_id: &str) -> io::Result<String> {
    let hash = diff_id.strip_prefix("sha256:").filter(|hash| hash.len() == 64);
    let hash = hash
        .filter(|hash| hash.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter)));
    let hash = hash.ok_or_else(|| broken(format!("{diff_id:?} is no layer's hash")))?;
    Ok(hash[..NAME_LENGTH].to_owned())
}

fn decompressed(stream: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    let mut magic = Vec::new();
    stream.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(stream);
    match magic[..] {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Ok(Box::new(zstd::Decoder::new(whole)?)),
        _ => Ok(Box::new(whole)),
    }
}

/// A reader that hashes and counts what passes through.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
