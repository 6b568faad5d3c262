//! The JSON documents of images, as far as they are needed: OCI layouts and `docker save` archives.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `index.json` of a layout, or an image index within it.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

/// A reference to a blob.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

/// What an image is for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
}

/// An image manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// One image of a `docker save` archive's `manifest.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "Config")]
    pub(super) config: String,
    #[serde(rename = "RepoTags", default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    pub(super) layers: Vec<String>,
}

/// An image's configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) config: Option<Runtime>,
    pub(super) rootfs: RootFs,
}

/// What is set for processes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Runtime {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
}

/// The layers, lowest first, each by the hash of its unpacked archive.
#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Option<Vec<String>>,
}

impl Config {
    /// The variables.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let list = self.config.iter().flat_map(|runtime| runtime.env.iter().flatten());
        list.filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

impl Descriptor {
    /// Whether it is an index rather than a manifest.
    pub(super) fn is_index(&self) -> bool {
        self.media_type.contains("image.index") || self.media_type.contains("manifest.list")
    }

    /// Whether it is for this machine. Descriptors of attestations name the platform `unknown`.
    pub(super) fn suits(&self) -> bool {
        let Some(platform) = &self.platform else { return true };
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        (platform.os.is_empty() || platform.os == "linux")
            && (platform.architecture.is_empty() || platform.architecture == own)
    }

    /// Names that tools give an image in an index.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        const KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        KEYS.iter().filter_map(|key| self.annotations.get(*key)).map(String::as_str)
    }
}
