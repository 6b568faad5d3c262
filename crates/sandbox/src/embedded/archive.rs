//! Images on disk: OCI layout folders and archives that `docker save` and its relatives write.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::oci::{Descriptor, Index, Manifest, Saved};

/// Largest JSON document that is read.
const LARGEST_DOCUMENT: u64 = 16 << 20;
/// Deepest nesting of image indexes.
const DEEPEST_INDEX: usize = 4;

/// A folder or archive with blobs in it.
#[derive(Debug)]
pub(super) enum Source {
    /// An OCI layout folder.
    Layout(PathBuf),
    /// A tar archive, and where in it each file's bytes are.
    Archive { path: PathBuf, files: HashMap<String, Span> },
}

/// Position of a file's bytes in an archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    offset: u64,
    length: u64,
}

/// An image in a source.
#[derive(Clone, Debug)]
pub(super) struct StoredImage {
    pub(super) source: Arc<Source>,
    /// Names that it goes by.
    pub(super) names: Vec<String>,
    /// Digest that records hold: of the manifest in a layout, of the configuration in a `docker save` archive, which
    /// has no other that holds elsewhere.
    pub(super) digest: String,
    /// Further digests that it may be asked for by.
    pub(super) digests: Vec<String>,
    /// File of the configuration.
    pub(super) config: String,
    /// Files of the layers, lowest first.
    pub(super) layers: Vec<String>,
}

impl Source {
    /// Opens `path` if it is a layout folder or an archive with images; `None` for anything else.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        if path.is_dir() {
            return Ok(path.join("index.json").is_file().then(|| Self::Layout(path.to_owned())));
        }
        if path.extension().is_none_or(|extension| extension != "tar") {
            return Ok(None);
        }
        Ok(Some(Self::Archive { path: path.to_owned(), files: index_archive(path)? }))
    }

    /// Opens a file of it for reading.
    pub(super) fn file(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Layout(folder) => Ok(Box::new(File::open(folder.join(inner_path(name)?))?)),
            Self::Archive { path, files } => {
                let span = files
                    .get(&key(Path::new(name)))
                    .ok_or_else(|| broken(format!("it has no file {name}")))?;
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(span.offset))?;
                Ok(Box::new(file.take(span.length)))
            }
        }
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let mut bytes = Vec::new();
        self.file(name)?.take(LARGEST_DOCUMENT).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| broken(format!("{name}: {error}")))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Layout(folder) => folder.join(name).is_file(),
            Self::Archive { files, .. } => files.contains_key(name),
        }
    }

    /// All its images. Those that cannot be read are left out, with a warning.
    pub(super) fn images(self: &Arc<Self>) -> io::Result<Vec<StoredImage>> {
        let mut described = Vec::new();
        if self.has("index.json") {
            self.collect("index.json", &[], 0, &mut described)?;
        }
        if !self.has("manifest.json") {
            return Ok(described);
        }
        let saved: Vec<Saved> = self.document("manifest.json")?;
        Ok(saved.into_iter().map(|saved| self.saved_image(saved, &described)).collect())
    }

    fn saved_image(self: &Arc<Self>, saved: Saved, described: &[StoredImage]) -> StoredImage {
        let stem = Path::new(&saved.config).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let same = described.iter().filter(|image| image.config == saved.config);
        StoredImage {
            source: self.clone(),
            names: saved.repo_tags.unwrap_or_default(),
            digest: format!("sha256:{stem}"),
            digests: same.map(|image| image.digest.clone()).collect(),
            config: saved.config,
            layers: saved.layers,
        }
    }

    /// Follows an index down to the manifests. Names given to an index hold for what is in it.
    fn collect(
        self: &Arc<Self>,
        document: &str,
        names: &[String],
        depth: usize,
        found: &mut Vec<StoredImage>,
    ) -> io::Result<()> {
        let index: Index = self.document(document)?;
        for descriptor in index.manifests.iter().filter(|descriptor| descriptor.suits()) {
            let names: Vec<String> =
                names.iter().cloned().chain(descriptor.names().map(str::to_owned)).collect();
            let blob = blob(descriptor)?;
            if !descriptor.is_index() {
                found.push(self.described_image(descriptor, &blob, names)?);
            } else if depth < DEEPEST_INDEX {
                self.collect(&blob, &names, depth + 1, found)?;
            }
        }
        Ok(())
    }

    fn described_image(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        file: &str,
        names: Vec<String>,
    ) -> io::Result<StoredImage> {
        let manifest: Manifest = self.document(file)?;
        Ok(StoredImage {
            source: self.clone(),
            names,
            digest: descriptor.digest.clone(),
            digests: vec![manifest.config.digest.clone()],
            config: blob(&manifest.config)?,
            layers: manifest.layers.iter().map(blob).collect::<io::Result<_>>()?,
        })
    }
}

/// The file of a blob; digests are untrusted and must not lead elsewhere.
fn blob(descriptor: &Descriptor) -> io::Result<String> {
    let valid = descriptor.digest.split_once(':').filter(|(kind, hash)| {
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_alphanumeric());
        is_word(kind) && is_word(hash)
    });
    let (kind, hash) = valid.ok_or_else(|| broken(format!("{:?} is no digest", descriptor.digest)))?;
    Ok(format!("blobs/{kind}/{hash}"))
}

/// A path that stays below the folder that it is joined to.
fn inner_path(name: &str) -> io::Result<&Path> {
    let path = Path::new(name);
    match path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        true => Ok(path),
        false => Err(broken(format!("{name:?} leads out of the layout"))),
    }
}

/// Notes where each file of an archive is. Older archives name a layer twice by a link.
fn index_archive(path: &Path) -> io::Result<HashMap<String, Span>> {
    let mut files = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(File::open(path)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let span = Span { offset: entry.raw_file_position(), length: entry.header().entry_size()? };
            files.insert(key(&name), span);
        } else if let Some(target) = entry.link_name()? {
            // A symbolic link is relative to its own folder, a hard link to the archive's root.
            let folder = name.parent().filter(|_| kind.is_symlink()).unwrap_or_else(|| Path::new(""));
            links.push((key(&name), key(&folder.join(target))));
        }
    }
    for (name, target) in links {
        if let Some(span) = files.get(&target).copied() {
            files.insert(name, span);
        }
    }
    Ok(files)
}

/// A path in an archive in one spelling: without `.`, and with `..` resolved.
fn key(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

/// What is wrong with an image, as opposed to with reading it.
pub(super) fn broken(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// When a source was last changed, to index it once.
pub(super) fn stamp(path: &Path) -> Option<(PathBuf, u64, std::time::SystemTime)> {
    let probe = if path.is_dir() { path.join("index.json") } else { path.to_owned() };
    let metadata = fs::metadata(probe).ok()?;
    Some((path.to_owned(), metadata.len(), metadata.modified().ok()?))
}
