//! The guest program: embedded in this one, written out where a backend can mount or start it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A static executable of this machine's architecture.
static BINARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/thresher-guest"));

/// Writes the guest program into `dir`, unless it is there, and returns its path. The name holds the content's hash,
/// so that runners of different versions share a folder.
///
/// # Errors
/// What the file system says.
pub(crate) fn install(dir: &Path) -> io::Result<PathBuf> {
    const HASH_BYTES: usize = 8;
    let hash: String =
        Sha256::digest(BINARY).iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    write(dir, &format!("thresher-guest-{hash}"))
}

/// Writes the guest program into `dir` as the file `guest`, and returns its path: for a folder that a single version
/// uses.
///
/// # Errors
/// What the file system says.
#[cfg(feature = "pods")]
pub fn install_as(dir: &Path) -> io::Result<PathBuf> {
    write(dir, "guest")
}

fn write(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    if fs::read(&path).is_ok_and(|present| present == BINARY) {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!(".{name}-{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(BINARY)?;
    file.set_permissions(Permissions::from_mode(0o555))?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, &path)?;
    Ok(path)
}
