//! A full disk is told apart from other failures, leaves nothing half-written, and is over once there is room.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use thresher_store::{LocalDir, ObjectPath, ObjectStore as _, PutMode, PutOutcome, StoreError};

/// A mounted file system of 256 KiB; unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount_at(dir: &Path) -> rustix::io::Result<Self> {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), c"size=256k")?;
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("what was mounted can be unmounted");
    }
}

async fn put(store: &LocalDir, at: &str, size: usize) -> Result<PutOutcome, StoreError> {
    let path = ObjectPath::parse(at).expect("the test's paths are valid");
    store.put(&path, Bytes::from(vec![7; size]), PutMode::Create).await
}

#[tokio::test]
async fn a_full_disk_is_its_own_error_and_leaves_room_for_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount_at(dir.path()) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: mounting a small file system needs privileges: {error}");
            return;
        }
    };
    let store = LocalDir::new(dir.path());
    put(&store, "a", 100_000).await.unwrap();
    for _ in 0..2 {
        let full = put(&store, "b", 200_000).await;
        assert!(matches!(full, Err(StoreError::DiskFull { .. })), "{full:?}");
    }
    let listed: Vec<_> = store.list("", None).await.unwrap().into_iter().map(|object| object.size).collect();
    assert_eq!(listed, [100_000], "nothing of the failed object is there");
    put(&store, "b", 100_000).await.unwrap();
    drop((store, disk));
}
