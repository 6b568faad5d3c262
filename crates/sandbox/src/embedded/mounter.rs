//! Who mounts an image's layers. Overlayfs heeds other marks for each, and files have other owners, so each has a set of
//! layers of its own.

use std::fs;

use rustix::thread::{CapabilitySet, capabilities};
use thresher_guest::launch::{IDS, Users};

/// First of the ids that root of a sandbox and its users have outside: past all ranges that distributions and systemd
/// give to people and containers, below those of systemd's own.
const FIRST_ID: u32 = 0x7000_0000;

/// Owner of files whose owner does not exist inside: the kernel's own stand-in.
const NOBODY: u32 = 65_534;

/// Who mounts the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mounter {
    /// Root with `CAP_SYS_ADMIN`.
    Root,
    /// Root of a user namespace, who may not set `trusted` attributes, and whose overlays ignore them.
    Namespace {
        /// What root inside is outside; 0 is the runner's own user.
        first_id: u32,
    },
}

impl Mounter {
    /// Who it is where sandboxes have `users`. Where this process may map any ids, root inside is nobody's id outside:
    /// limits per user then bind it, and no file of the runner's is its own.
    pub(super) fn of(users: Users) -> Self {
        match users {
            Users::Host => Self::Root,
            Users::Namespace => Self::Namespace { first_id: if may_map() { FIRST_ID } else { 0 } },
        }
    }

    /// What root inside is outside; 0 is the runner's own user.
    pub(super) fn first_id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Namespace { first_id } => first_id,
        }
    }

    /// The owner, outside, of a file that an image gives to `id`.
    pub(super) fn owner(self, id: u32) -> u32 {
        match self.first_id() {
            0 => id,
            first if id < IDS => first + id,
            first => first + NOBODY,
        }
    }

    /// The attribute of a folder that hides what the layers below have in it.
    pub(super) fn opaque(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.opaque",
            Self::Namespace { .. } => "user.overlay.opaque",
        }
    }

    /// Name of the folder with the layers.
    pub(super) fn layers(self) -> &'static str {
        match self {
            Self::Root => "layers",
            Self::Namespace { first_id: 0 } => "layers-user",
            Self::Namespace { .. } => "layers-mapped",
        }
    }

    /// Name of the folder with the records of images.
    pub(super) fn images(self) -> &'static str {
        match self {
            Self::Root => "images",
            Self::Namespace { first_id: 0 } => "images-user",
            Self::Namespace { .. } => "images-mapped",
        }
    }
}

/// Whether this process may give a user namespace the ids from [`FIRST_ID`] on.
fn may_map() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let has = capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    let exist = |file: &str| fs::read_to_string(file).is_ok_and(|map| covers(&map));
    has && exist("/proc/self/uid_map") && exist("/proc/self/gid_map")
}

/// Whether a map, as `/proc/<pid>/uid_map` has it, has all the ids.
fn covers(map: &str) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, count) = (words.next().unwrap_or(0), words.nth(1).unwrap_or(0));
        first <= u64::from(FIRST_ID) && u64::from(FIRST_ID) + u64::from(IDS) <= first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_moved_and_stay_in_range() {
        let mapped = Mounter::Namespace { first_id: FIRST_ID };
        assert_eq!(mapped.owner(0), FIRST_ID);
        assert_eq!(mapped.owner(1234), FIRST_ID + 1234);
        assert_eq!(mapped.owner(IDS), FIRST_ID + NOBODY);
        assert_eq!(mapped.owner(u32::MAX - 1), FIRST_ID + NOBODY);
        for as_it_is in [Mounter::Root, Mounter::Namespace { first_id: 0 }] {
            assert_eq!(as_it_is.owner(u32::MAX - 1), u32::MAX - 1);
        }
    }

    #[test]
    fn only_whole_maps_do() {
        assert!(covers("         0          0 4294967295\n"));
        assert!(covers("0 100000 65536\n65536 1 4294900000\n"));
        assert!(!covers("0 1000 1\n"));
        assert!(!covers("0 100000 65536\n"));
        assert!(!covers(""));
    }
}
