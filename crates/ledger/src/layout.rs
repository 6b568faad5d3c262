//! Every object's path under a run's prefix. Nothing else in the crate spells a path.
//!
//! ```text
//! plan/<n>.json, plan/<n>.parquet                       segments of the plan, created once each
//! data/<fingerprint>/<sha256>, .../index.json           the dataset's files in pieces, for workers that do not have them
//! locks/<hash of an image's reference>.json             what the reference stands for in this run, created once
//! control.json                                          what the operators want: compare-and-swap
//! budget.json                                           who may spend how much: compare-and-swap
//! workers/<incarnation>.json                            heartbeat, written by that worker alone
//! claims/<shard>.json                                   who works on a shard: compare-and-swap
//! attempts/<shard>/<rollout>/<attempt>-<nonce>.ungraded.json.zst   trajectory and patch before grading
//! attempts/<shard>/<rollout>/<attempt>-<nonce>.fault.json.zst      the record of an attempt that faulted, and its log
//! attempts/<shard>/<rollout>/<nonce>.grader.log.zst     what a grading run printed, in runs of format 1
//! results/<shard>/<rollout>                             THE commit of a rollout: zstd JSON, created once; what its
//!                                                       grading run printed follows in a second frame
//! tables/<table>/<pack>.parquet                         rows, visible only through the log
//! log/<n>.json                                          created once each, without gaps
//! checkpoints/<n>.json.zst                              what the log says up to entry n, to read it faster
//! manifest.json                                         written at sealing
//! ```
//!
//! Numbers `<n>` have eight digits, so that listings are in their order.

use thresher_core::{RolloutId, Sha256Hex, ShardId};
use thresher_store::ObjectPath;

use crate::LedgerError;
use crate::schema::Table;

/// The paths of one run.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Empty, or ends with `/`.
    prefix: String,
}

/// What an object below `attempts/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    Ungraded,
    Fault,
}

impl AttemptKind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Ungraded => ".ungraded.json.zst",
            Self::Fault => ".fault.json.zst",
        }
    }
}

/// An object below `attempts/`, as its path tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptObject {
    pub(crate) shard: ShardId,
    pub(crate) rollout: RolloutId,
    pub(crate) attempt: u32,
    pub(crate) nonce: String,
    pub(crate) kind: AttemptKind,
    pub(crate) path: ObjectPath,
}

impl Layout {
    pub(crate) fn new(prefix: &str) -> Result<Self, LedgerError> {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Ok(Self { prefix: String::new() });
        }
        ObjectPath::parse(prefix).map_err(|_| LedgerError::BadName(prefix.to_owned()))?;
        Ok(Self { prefix: format!("{prefix}/") })
    }

    /// The object at `relative`, a path below the run's prefix.
    pub(crate) fn object(&self, relative: &str) -> Result<ObjectPath, LedgerError> {
        ObjectPath::parse(format!("{}{relative}", self.prefix))
            .map_err(|_| LedgerError::BadName(relative.to_owned()))
    }

    /// The path below the run's prefix.
    pub(crate) fn relative<'a>(&self, path: &'a ObjectPath) -> &'a str {
        path.as_str().strip_prefix(&self.prefix).unwrap_or(path.as_str())
    }

    /// The prefix, for listings and messages.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn folder(&self, relative: &str) -> String {
        format!("{}{relative}", self.prefix)
    }

    pub(crate) fn plan_json(&self, segment: u32) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("plan/{segment:08}.json"))
    }

    pub(crate) fn plan_rows(&self, segment: u32) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("plan/{segment:08}.parquet"))
    }

    pub(crate) fn data_piece(
        &self,
        fingerprint: &Sha256Hex,
        piece: &Sha256Hex,
    ) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("data/{}/{}", segment(fingerprint.as_str())?, segment(piece.as_str())?))
    }

    pub(crate) fn data_index(&self, fingerprint: &Sha256Hex) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("data/{}/index.json", segment(fingerprint.as_str())?))
    }

    pub(crate) fn result(&self, shard: &ShardId, rollout: &RolloutId) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("results/{}/{}", segment(shard.as_str())?, segment(rollout.as_str())?))
    }

    /// Shard and rollout of a path below `results/`; `None` for what is none of ours.
    pub(crate) fn parse_result(&self, path: &ObjectPath) -> Option<(ShardId, RolloutId)> {
        let (shard, rollout) = self.relative(path).strip_prefix("results/")?.split_once('/')?;
        (!rollout.contains('/')).then(|| (ShardId::new(shard), RolloutId::new(rollout)))
    }

    pub(crate) fn attempts(&self, shard: &ShardId, rollout: &RolloutId) -> Result<String, LedgerError> {
        Ok(self.folder(&format!("attempts/{}/{}/", segment(shard.as_str())?, segment(rollout.as_str())?)))
    }

    pub(crate) fn attempt(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
        attempt: u32,
        nonce: &str,
        kind: AttemptKind,
    ) -> Result<ObjectPath, LedgerError> {
        let folder = self.attempts(shard, rollout)?;
        let name = format!("{folder}{attempt:04}-{}{}", segment(nonce)?, kind.suffix());
        ObjectPath::parse(name).map_err(|_| LedgerError::BadName(nonce.to_owned()))
    }

    /// Whether the object is a grader's log by itself, as runs of format 1 have them.
    pub(crate) fn is_separate_log(path: &str) -> bool {
        path.ends_with(".grader.log.zst")
    }

    /// Reads a path below `attempts/`; `None` for grader logs and for what is none of ours.
    pub(crate) fn parse_attempt(&self, path: &ObjectPath) -> Option<AttemptObject> {
        let mut parts = self.relative(path).strip_prefix("attempts/")?.splitn(3, '/');
        let (shard, rollout, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (attempt, rest) = name.split_once('-')?;
        let kinds = [AttemptKind::Ungraded, AttemptKind::Fault];
        let (kind, nonce) =
            kinds.into_iter().find_map(|kind| Some((kind, rest.strip_suffix(kind.suffix())?)))?;
        Some(AttemptObject {
            shard: ShardId::new(shard),
            rollout: RolloutId::new(rollout),
            attempt: attempt.parse().ok()?,
            nonce: nonce.to_owned(),
            kind,
            path: path.clone(),
        })
    }

    /// An object that stands for one thing, as `claims/<shard>.json`.
    pub(crate) fn named(&self, folder: &str, name: &str) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("{folder}/{}.json", segment(name)?))
    }

    /// The name in a path that [`Self::named`] made; `None` for what is none of ours.
    pub(crate) fn parse_named<'a>(&self, folder: &str, path: &'a ObjectPath) -> Option<&'a str> {
        let name = self.relative(path).strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".json")?;
        (!name.contains('/')).then_some(name)
    }

    /// The path below the run's prefix of a table's file.
    pub(crate) fn table_file(table: Table, pack: &str) -> String {
        format!("tables/{}/{pack}.parquet", table.name())
    }

    /// The pack of a path below `tables/`; `None` for what is none of ours.
    pub(crate) fn parse_table_file<'a>(&self, path: &'a ObjectPath) -> Option<&'a str> {
        let (table, file) = self.relative(path).strip_prefix("tables/")?.split_once('/')?;
        Table::from_name(table)?;
        let pack = file.strip_suffix(".parquet")?;
        let ours = pack.len() == 16 && pack.bytes().all(|byte| byte.is_ascii_hexdigit());
        ours.then_some(pack)
    }

    pub(crate) fn log(&self, number: u64) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("log/{number:08}.json"))
    }

    pub(crate) fn checkpoint(&self, number: u64) -> Result<ObjectPath, LedgerError> {
        self.object(&format!("checkpoints/{number:08}.json.zst"))
    }

    /// The number of a path below `checkpoints/`.
    pub(crate) fn checkpoint_number(path: &ObjectPath) -> Option<u64> {
        path.name().strip_suffix(".json.zst")?.parse().ok()
    }

    /// The number of a path such as `log/00000003.json` or `plan/00000003.json`.
    pub(crate) fn number(path: &ObjectPath) -> Option<u64> {
        path.name().strip_suffix(".json")?.parse().ok()
    }

    pub(crate) fn manifest(&self) -> Result<ObjectPath, LedgerError> {
        self.object("manifest.json")
    }
}

/// Ids become segments of paths, so one that holds a `/` would name another object.
fn segment(text: &str) -> Result<&str, LedgerError> {
    if text.contains('/') { Err(LedgerError::BadName(text.to_owned())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back_as_they_were_made() {
        let (shard, rollout) = (ShardId::new("s"), RolloutId::new("r"));
        for prefix in ["", "runs/x"] {
            let layout = Layout::new(prefix).unwrap();
            let result = layout.result(&shard, &rollout).unwrap();
            assert_eq!(layout.parse_result(&result), Some((shard.clone(), rollout.clone())));
            for kind in [AttemptKind::Ungraded, AttemptKind::Fault] {
                let path = layout.attempt(&shard, &rollout, 12, "a-b", kind).unwrap();
                let read = layout.parse_attempt(&path).unwrap();
                assert_eq!((read.attempt, read.nonce.as_str(), read.kind), (12, "a-b", kind));
                assert!(path.as_str().starts_with(&layout.attempts(&shard, &rollout).unwrap()));
            }
            let log = layout.object("attempts/s/r/1-n.grader.log.zst").unwrap();
            assert_eq!(layout.parse_attempt(&log), None);
            assert!(Layout::is_separate_log(log.as_str()));
            assert_eq!(Layout::number(&layout.log(7).unwrap()), Some(7));
            assert_eq!(Layout::checkpoint_number(&layout.checkpoint(64).unwrap()), Some(64));
            let file = layout.object(&Layout::table_file(Table::Steps, "0123456789abcdef")).unwrap();
            assert_eq!(layout.parse_table_file(&file), Some("0123456789abcdef"));
            let other = layout.object("tables/steps/mine.parquet").unwrap();
            assert_eq!(layout.parse_table_file(&other), None);
            assert_eq!(layout.relative(&layout.manifest().unwrap()), "manifest.json");
        }
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        let layout = Layout::new("").unwrap();
        for bad in ["", "..", "a/b", ".x"] {
            assert!(layout.result(&ShardId::new(bad), &RolloutId::new("r")).is_err(), "{bad:?}");
            assert!(layout.object(&format!("tables/{bad}/../x")).is_err());
        }
        assert!(Layout::new("../x").is_err());
    }
}
