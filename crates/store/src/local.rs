//! A store in a local directory.
//!
//! An object is a file. Its bytes are written and synced under a private name in `.staging`, then the file is
//! moved to its path in one step: `renameat2(RENAME_NOREPLACE)` where it must not exist yet, `rename` under the
//! store's lock where it may. A killed writer leaves at most a private file, which the next writer removes.

mod dir_sync;
mod staged;
mod staging;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use self::dir_sync::DirSync;
use self::staged::{Staged, Upload};
use self::staging::Staging;
use crate::{
    ChangeTag, Etag, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
    etag_of,
};

/// A directory as a store. Cloning is cheap; clones share their private files.
///
/// Several processes may use one directory at a time.
#[derive(Clone, Debug)]
pub struct LocalDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    staging: Staging,
    sync: DirSync,
    /// Folders that are known to be there for good.
    anchored: Mutex<HashSet<PathBuf>>,
}

impl LocalDir {
    /// Uses `root` as a store. Nothing is created before the first put.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let inner = Inner {
            staging: Staging::new(&root),
            sync: DirSync::default(),
            anchored: Mutex::default(),
            root,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|broken| Err(io::Error::other(broken)))
            .map_err(|error| StoreError::from_io(path, error))
    }
}

#[async_trait]
impl ObjectStore for LocalDir {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let target = self.inner.file(path);
        self.blocking(path.as_str(), move |store| store.put(&target, &bytes, &mode)).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        let staged = self.blocking(path.as_str(), |store| Staged::create(&store.staging)).await?;
        Ok(Box::new(Upload::new(self.clone(), path.clone(), staged)))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        let file = self.inner.file(path);
        let bytes = self.blocking(path.as_str(), move |_| fs::read(file)).await?;
        Ok(Object { etag: etag_of(&bytes), bytes: bytes.into() })
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let file = self.inner.file(path);
        self.blocking(path.as_str(), move |_| read_range(&file, range)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let file = self.inner.file(path);
        let metadata = self.blocking(path.as_str(), move |_| file_metadata(&file)).await?;
        Ok(meta(path.clone(), &metadata))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let wanted = Wanted { prefix: prefix.to_owned(), after: after.unwrap_or_default().to_owned() };
        self.blocking(prefix, move |store| store.list(&wanted)).await
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let wanted = folder.to_owned();
        self.blocking(folder, move |store| folders(&store.root.join(wanted))).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let file = self.inner.file(path);
        self.blocking(path.as_str(), move |store| store.delete(&file)).await
    }
}

impl Inner {
    fn file(&self, path: &ObjectPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn put(&self, target: &Path, bytes: &[u8], mode: &PutMode) -> io::Result<PutOutcome> {
        // Saves writing the body where it is already clear that it cannot be placed.
        if *mode == PutMode::Create && target.symlink_metadata().is_ok() {
            return Ok(PutOutcome::Conflict);
        }
        let mut staged = Staged::create(&self.staging)?;
        staged.write(bytes)?;
        self.place(&staged, target, mode)
    }

    /// Makes what is staged the object at `target`, if `mode`'s condition holds.
    fn place(&self, staged: &Staged, target: &Path, mode: &PutMode) -> io::Result<PutOutcome> {
        self.anchor(folder_of(target))?;
        let etag = staged.finish()?;
        let stored = match mode {
            PutMode::Create => rename_new(staged.path(), target)?,
            PutMode::Overwrite | PutMode::Update(_) => self.replace(staged.path(), target, mode)?,
        };
        if !stored {
            return Ok(PutOutcome::Conflict);
        }
        self.sync.sync(folder_of(target))?;
        Ok(PutOutcome::Stored(etag))
    }

    /// Makes `dir` and syncs the way to it, once per folder and process: also a folder that is already there may
    /// have been made a moment ago by a writer that has not synced it yet.
    fn anchor(&self, dir: &Path) -> io::Result<()> {
        if lock(&self.anchored).contains(dir) {
            return Ok(());
        }
        let mut holders: Vec<&Path> =
            dir.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)).collect();
        let missing = dir.ancestors().take_while(|above| !above.exists());
        holders.extend(missing.filter_map(Path::parent).filter(|holder| !holder.starts_with(&self.root)));
        fs::create_dir_all(dir).map_err(|error| match error.kind() {
            // An object is where a folder should be.
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        })?;
        for holder in holders {
            self.sync.sync(holder)?;
        }
        lock(&self.anchored).insert(dir.to_owned());
        Ok(())
    }

    fn replace(&self, staged: &Path, target: &Path, mode: &PutMode) -> io::Result<bool> {
        let _lock = self.lock()?;
        if let PutMode::Update(expected) = mode
            && current_etag(target)?.as_ref() != Some(expected)
        {
            return Ok(false);
        }
        fs::rename(staged, target)?;
        Ok(true)
    }

    /// Serializes replacing and deleting between processes: no system call compares and swaps a file's content.
    fn lock(&self) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(self.root.join(".lock-store"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn delete(&self, file: &Path) -> io::Result<()> {
        match file.symlink_metadata() {
            Err(error) if is_absent(&error) => return Ok(()),
            other => other?,
        };
        let _lock = self.lock()?;
        match fs::remove_file(file) {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync.sync(folder_of(file)),
        }
    }

    fn list(&self, wanted: &Wanted) -> io::Result<Vec<ObjectMeta>> {
        let folder = wanted.prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        wanted.walk(&self.root.join(folder), folder, &mut found)?;
        found.sort();
        Ok(found)
    }
}

/// Which objects a listing is to hold.
struct Wanted {
    prefix: String,
    /// Empty, or the text after which paths are wanted.
    after: String,
}

impl Wanted {
    fn holds(&self, path: &str) -> bool {
        path.starts_with(&self.prefix) && *path > *self.after
    }

    /// Whether a wanted object may lie in the folder, whose path ends with `/`.
    fn reaches_into(&self, folder: &str) -> bool {
        let matches = folder.starts_with(&self.prefix) || self.prefix.starts_with(folder);
        matches && (*folder > *self.after || self.after.starts_with(folder))
    }

    /// Adds the objects below `dir`, whose path within the store is `folder`.
    fn walk(&self, dir: &Path, folder: &str, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if is_absent(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            // Files of the store's own begin with a dot, which no object's path does.
            let Ok(object) = ObjectPath::parse(path) else { continue };
            if entry.file_type()?.is_dir() {
                if self.reaches_into(&format!("{object}/")) {
                    self.walk(&entry.path(), object.as_str(), found)?;
                }
            } else if self.holds(object.as_str()) {
                match entry.metadata() {
                    Err(error) if is_absent(&error) => {}
                    metadata => found.push(meta(object, &metadata?)),
                }
            }
        }
        Ok(())
    }
}

fn meta(path: ObjectPath, metadata: &fs::Metadata) -> ObjectMeta {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let tag = format!("{:x}-{seconds:x}.{nanos:x}-{:x}", metadata.ino(), metadata.len());
    ObjectMeta { path, size: metadata.len(), tag: ChangeTag::new(tag) }
}

/// The folders in `dir` whose names paths can hold; also those that hold no object.
fn folders(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if entry.file_type()?.is_dir() && ObjectPath::parse(name.as_str()).is_ok() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Moves `staged` to `target` if nothing is there; says whether it did.
fn rename_new(staged: &Path, target: &Path) -> io::Result<bool> {
    match renameat_with(CWD, staged, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => link_new(staged, target),
        Err(error) => Err(error.into()),
    }
}

/// The same for file systems without `RENAME_NOREPLACE`: a second name, which fails if it is taken.
fn link_new(staged: &Path, target: &Path) -> io::Result<bool> {
    match fs::hard_link(staged, target) {
        Ok(()) => fs::remove_file(staged).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn current_etag(file: &Path) -> io::Result<Option<Etag>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(etag_of(&bytes))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn file_metadata(file: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::metadata(file)?;
    if metadata.is_dir() { Err(io::ErrorKind::NotFound.into()) } else { Ok(metadata) }
}

fn read_range(file: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().expect("an object's path lies below the root")
}

/// What the locks guard is whole at every instant, so poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that is really a file holds no objects either.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests;
