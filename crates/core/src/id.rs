//! Identities: each a type of its own, so that a shard's id cannot be passed where a rollout's is meant.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that is already known to be such an id.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A run: one submitted batch. It owns a prefix in the store.
    RunId
);
text_id!(
    /// A task's id, in the dataset's own words.
    InstanceId
);
text_id!(
    /// A shard: the rollouts that are scheduled together because they share one image.
    ShardId
);
text_id!(
    /// A rollout: one sample of one task under one agent and one model. 32 hex digits, see [`RolloutId::derive`].
    RolloutId
);
text_id!(
    /// A SHA-256 in 64 lower-case hex digits.
    Sha256Hex
);

impl Sha256Hex {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }
}

/// What a rollout's identity is made of, and nothing else: changing concurrency, budgets or endpoints keeps it.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutKey<'a> {
    /// Dataset name and row content: the same id with another row is another task.
    pub instance_id: &'a InstanceId,
    /// Hash of the dataset row.
    pub row_sha256: &'a Sha256Hex,
    /// Hash of the agent's name, prompts, tools and limits.
    pub agent_sha256: &'a Sha256Hex,
    /// Hash of the model's name and sampling parameters.
    pub model_sha256: &'a Sha256Hex,
    /// Sample number within the task, from 0.
    pub sample: u32,
}

impl RolloutId {
    /// Derives the id: the first 128 bits of the SHA-256 over the key's JSON form.
    pub fn derive(key: &RolloutKey<'_>) -> Self {
        let json = serde_json::to_vec(key).expect("a key of texts and numbers serializes");
        Self(hex(&Sha256::digest(json)[..16]))
    }
}

/// Renders `bytes` in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_id_depends_on_each_part_of_its_key() {
        let (a, b) = (Sha256Hex::of(b"a"), Sha256Hex::of(b"b"));
        let (one, two) = (InstanceId::new("one"), InstanceId::new("two"));
        let key =
            RolloutKey { instance_id: &one, row_sha256: &a, agent_sha256: &a, model_sha256: &a, sample: 0 };
        let variants = [
            key.clone(),
            RolloutKey { instance_id: &two, ..key.clone() },
            RolloutKey { row_sha256: &b, ..key.clone() },
            RolloutKey { agent_sha256: &b, ..key.clone() },
            RolloutKey { model_sha256: &b, ..key.clone() },
            RolloutKey { sample: 1, ..key.clone() },
        ];
        let ids: std::collections::BTreeSet<_> = variants.iter().map(RolloutId::derive).collect();
        assert_eq!(ids.len(), variants.len());
        assert!(ids.iter().all(|id| id.as_str().len() == 32));
    }
}
