//! A store in a local directory.
//!
//! An object is a file. Its bytes are written and synced under a private name in `.staging`, then the file is
//! moved to its path in one step: `renameat2(RENAME_NOREPLACE)` where it must not exist yet, `rename` under the
//! store's lock where it may. A killed writer leaves at most a private file, which the next writer removes.

mod dir_sync;
mod staging;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use self::dir_sync::DirSync;
use self::staging::Staging;
use crate::{Etag, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError, etag_of};

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
        let size = self.blocking(path.as_str(), move |_| file_size(&file)).await?;
        Ok(ObjectMeta { path: path.clone(), size })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let wanted = prefix.to_owned();
        self.blocking(prefix, move |store| store.list(&wanted)).await
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
        self.anchor(folder_of(target))?;
        let staged = self.stage(bytes)?;
        let outcome = self.place(&staged, target, bytes, mode);
        if !matches!(outcome, Ok(PutOutcome::Stored(_))) {
            // The put failed or lost; what it staged is of no use, and the next writer would remove it anyway.
            drop(fs::remove_file(&staged));
        }
        outcome
    }

    fn stage(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let (path, mut file) = self.staging.create()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // On a full disk the half-written file would keep the space that the next try needs.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        Ok(path)
    }

    fn place(&self, staged: &Path, target: &Path, bytes: &[u8], mode: &PutMode) -> io::Result<PutOutcome> {
        let stored = match mode {
            PutMode::Create => rename_new(staged, target)?,
            PutMode::Overwrite | PutMode::Update(_) => self.replace(staged, target, mode)?,
        };
        if !stored {
            return Ok(PutOutcome::Conflict);
        }
        self.sync.sync(folder_of(target))?;
        Ok(PutOutcome::Stored(etag_of(bytes)))
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

    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectMeta>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        walk(&self.root.join(folder), folder, &mut found)?;
        found.retain(|object| object.path.as_str().starts_with(prefix));
        found.sort();
        Ok(found)
    }
}

/// Adds the objects below `dir`, whose path within the store is `folder`.
fn walk(dir: &Path, folder: &str, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
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
            walk(&entry.path(), object.as_str(), found)?;
        } else {
            match entry.metadata() {
                Err(error) if is_absent(&error) => {}
                metadata => found.push(ObjectMeta { size: metadata?.len(), path: object }),
            }
        }
    }
    Ok(())
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

fn file_size(file: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(file)?;
    if metadata.is_dir() { Err(io::ErrorKind::NotFound.into()) } else { Ok(metadata.len()) }
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
