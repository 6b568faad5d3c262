//! How full a file system is.

use std::path::Path;

/// Of something that a file system has only so much of: bytes, or inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) used: u64,
    /// Used and available together, without what is reserved for root.
    pub(crate) total: u64,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) bytes: Share,
    /// All 0 where the file system counts none.
    pub(crate) inodes: Share,
}

impl Fill {
    /// Looks at the file system of `folder`; `None` where it cannot be told.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(folder).ok()?;
        let share = |all: u64, free: u64, available: u64, unit: u64| {
            let used = all.saturating_sub(free);
            Share {
                used: used.saturating_mul(unit),
                total: used.saturating_add(available).saturating_mul(unit),
            }
        };
        Some(Self {
            bytes: share(stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_frsize),
            inodes: share(stat.f_files, stat.f_ffree, stat.f_favail, 1),
        })
    }
}

impl Share {
    /// So many percent of all of it.
    pub(crate) fn percent(self, percent: u8) -> u64 {
        (u128::from(self.total) * u128::from(percent) / 100) as u64
    }

    /// Whether more than so many percent are used.
    pub(crate) fn is_above(self, percent: u8) -> bool {
        self.used > self.percent(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_can_be_looked_at() {
        let fill = Fill::of(Path::new("/")).unwrap();
        assert!(fill.bytes.total > 0 && fill.bytes.used <= fill.bytes.total);
        assert_eq!(Fill::of(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_mark_is_passed_when_more_is_used() {
        let share = |used| Share { used, total: 1_000 };
        assert!(!share(850).is_above(85));
        assert!(share(851).is_above(85));
        assert!(!Share::default().is_above(85), "what is not counted is never full");
        assert_eq!(Share { used: 0, total: u64::MAX }.percent(100), u64::MAX);
    }
}
