//! The machine that the sandboxes run on: its memory, its disk, its kernel.

use std::fs;
use std::path::Path;

use crate::SandboxError;

/// Free bytes below which a disk counts as full.
const LEAST_FREE_DISK: u64 = 64 << 20;
/// Available bytes below which the machine's memory counts as exhausted.
const LEAST_FREE_MEMORY: u64 = 64 << 20;

/// The kernel's release.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Memory of the machine in bytes.
pub(super) fn memory() -> u64 {
    meminfo("MemTotal:").unwrap_or(u64::MAX)
}

fn meminfo(field: &str) -> Option<u64> {
    parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn parse_meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Whether a folder is on an overlay file system.
pub(super) fn is_overlay(folder: &Path) -> bool {
    const OVERLAY: u64 = 0x794c_7630;
    rustix::fs::statfs(folder).is_ok_and(|stat| stat.f_type as u64 == OVERLAY)
}

/// A full disk below `folder`, as evidence of an outside cause.
pub(crate) fn full_disk(folder: &Path) -> Option<SandboxError> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < LEAST_FREE_DISK)
        .then(|| SandboxError::DiskFull(format!("{} has {free} bytes left", folder.display())))
}

/// Memory that is used up, as evidence of an outside cause. Only to be asked where sandboxes have memory limits of
/// their own: otherwise the code inside could have used it up.
pub(super) fn exhausted_memory() -> Option<SandboxError> {
    let available = meminfo("MemAvailable:")?;
    (available < LEAST_FREE_MEMORY).then(|| SandboxError::Os {
        action: format!("find memory: the machine has {available} bytes left"),
        source: std::io::ErrorKind::OutOfMemory.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24684088 kB\nMemFree:         1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(parse_meminfo(text, "MemAvailable:"), Some(2 << 20));
        assert_eq!(parse_meminfo(text, "Swap:"), None);
    }
}
