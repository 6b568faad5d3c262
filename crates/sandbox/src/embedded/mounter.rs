//! Who mounts an image's layers. Overlayfs heeds other marks for each, so each has a set of layers of its own.

use thresher_guest::launch::Users;

/// Who mounts the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mounter {
    /// Root with `CAP_SYS_ADMIN`.
    Root,
    /// Root of a user namespace, who may not set `trusted` attributes, and whose overlays ignore them.
    Namespace,
}

impl Mounter {
    pub(super) fn of(users: Users) -> Self {
        match users {
            Users::Host => Self::Root,
            Users::Namespace => Self::Namespace,
        }
    }

    /// The attribute of a folder that hides what the layers below have in it.
    pub(super) fn opaque(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.opaque",
            Self::Namespace => "user.overlay.opaque",
        }
    }

    /// Name of the folder with the layers.
    pub(super) fn layers(self) -> &'static str {
        match self {
            Self::Root => "layers",
            Self::Namespace => "layers-user",
        }
    }

    /// Name of the folder with the records of images.
    pub(super) fn images(self) -> &'static str {
        match self {
            Self::Root => "images",
            Self::Namespace => "images-user",
        }
    }
}
