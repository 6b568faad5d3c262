//! Deleting what no reader needs any more: files of packs that were removed, or never became part of the run.
//!
//! What is to be deleted is condemned in the log first. An entry that names a pack either stands before the one that
//! condemns it, which then does not condemn it, or its writer reads the condemnation before it can append. So a file
//! that is deleted is never named later, however long its writer was stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use thresher_store::ObjectMeta;
use tracing::info;

use crate::layout::AttemptKind;
use crate::log::{Append, Change, Condemned, Pack};
use crate::log_state::LogState;
use crate::{Ledger, LedgerError, Manifest, RunLock};

/// Checkpoints that stay: the one that readers use, and one before it for those that are reading it now.
const CHECKPOINTS: usize = 2;

/// What is deleted, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// How long files stay after they were condemned, for readers of older positions. Zero deletes at once.
    pub keep: Duration,
    /// The time in Unix seconds. Condemnations hold the time of their own caller: `keep` is as exact as clocks agree.
    pub now_unix_s: i64,
    /// Whether to only say what would be done.
    pub dry_run: bool,
    /// Whether to delete, if the run is sealed, the ungraded trajectories of rollouts whose results are packed.
    pub ungraded: bool,
}

impl GcOptions {
    /// Files stay for seven days, and trajectories for good.
    pub fn at(now_unix_s: i64) -> Self {
        let keep = Duration::from_secs(7 * 24 * 60 * 60);
        Self { keep, now_unix_s, dry_run: false, ungraded: false }
    }
}

/// What was done, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Packs that were condemned now.
    pub condemned: u64,
    /// Files of condemned packs that stay for now, and their bytes.
    pub kept: Deleted,
    /// Files of condemned packs that were deleted.
    pub tables: Deleted,
    /// Ungraded trajectories that were deleted.
    pub ungraded: Deleted,
    /// Checkpoints of the log that were deleted.
    pub checkpoints: u64,
}

/// A number of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// How many.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Deleted {
    fn add(&mut self, object: &ObjectMeta) {
        self.objects += 1;
        self.bytes += object.size;
    }
}

/// Whether a manifest that is missing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manifests {
    Write,
    Leave,
}

/// Table files by pack.
type Files = BTreeMap<String, Vec<ObjectMeta>>;

impl Ledger {
    /// Condemns the packs that are not part of the run, and deletes the files of those that were condemned long enough
    /// ago (protocol: G1 to G6). It may run beside anything else.
    pub async fn gc(&self, options: &GcOptions) -> Result<GcReport, LedgerError> {
        let mut state = self.log_state().await?;
        let mut report = GcReport::default();
        let dead = if options.dry_run {
            let dead = self.dead(&self.table_files().await?, &state, Manifests::Leave).await?;
            let new = to_condemn(&state, dead.keys());
            report.condemned = new.len() as u64;
            state.condemned.extend(new.into_iter().map(|pack| (pack, options.now_unix_s)));
            dead
        } else {
            let (dead, new) = self.condemn(&mut state, options.now_unix_s, |_, _| true).await?;
            report.condemned = new;
            dead
        };
        for (pack, files) in &dead {
            let Some(at) = state.condemned.get(pack) else { continue };
            let due = options.now_unix_s.saturating_sub(*at) >= options.keep.as_secs() as i64;
            let tally = if due { &mut report.tables } else { &mut report.kept };
            self.clear(files, due && !options.dry_run, tally).await?;
        }
        if options.ungraded {
            self.clear_ungraded(&state, options.dry_run, &mut report.ungraded).await?;
        }
        report.checkpoints = self.clear_checkpoints(options.dry_run).await?;
        info!(?report, dry_run = options.dry_run, "garbage is collected");
        Ok(report)
    }

    /// Condemns and deletes the table files that no log entry has ever named, and returns how many there were: a packer
    /// left them that was killed between writing its files and its entry. No reader was ever shown them.
    ///
    /// It is safe beside living packers, but makes them write again, so it is for the holder of the run's lock.
    pub async fn sweep(&self, _lock: &RunLock) -> Result<u64, LedgerError> {
        let mut state = self.log_state().await?;
        let (dead, _) = self.condemn(&mut state, 0, |state, pack| !state.was_live(pack)).await?;
        let mut swept = Deleted::default();
        for (_, files) in dead.iter().filter(|(pack, _)| state.condemned.contains_key(*pack)) {
            self.clear(files, true, &mut swept).await?;
        }
        Ok(swept.objects)
    }

    /// Every table file, by pack.
    async fn table_files(&self) -> Result<Files, LedgerError> {
        let mut files = Files::new();
        for object in self.store.list(&self.layout.folder("tables/"), None).await? {
            let Some(pack) = self.layout.parse_table_file(&object.path) else { continue };
            files.entry(pack.to_owned()).or_default().push(object);
        }
        Ok(files)
    }

    /// Of `files` those of packs that neither the log nor the manifest shows to anybody (protocol: G1, G2).
    async fn dead(
        &self,
        files: &Files,
        state: &LogState,
        manifests: Manifests,
    ) -> Result<Files, LedgerError> {
        let manifest = self.newest_manifest(state, manifests).await?;
        let shown = |pack: &str| manifest.as_ref().is_some_and(|manifest| lists(manifest, pack));
        let dead = files.iter().filter(|(pack, _)| !state.is_live(pack) && !shown(pack));
        Ok(dead.map(|(pack, files)| (pack.clone(), files.clone())).collect())
    }

    /// The manifest of the newest sealing. A sealer that was stopped before it wrote it could otherwise do so when the
    /// files are gone; one that finds it leaves it.
    async fn newest_manifest(
        &self,
        state: &LogState,
        manifests: Manifests,
    ) -> Result<Option<Manifest>, LedgerError> {
        let found = self.manifest().await?;
        if found.as_ref().map_or(0, |manifest| manifest.log_position) >= state.sealed_at {
            return Ok(found);
        }
        let mut sealed = LogState::default();
        self.read_until(&mut sealed, state.sealed_at, |_, _| {}).await?;
        Ok(Some(match manifests {
            Manifests::Write => self.write_manifest(&sealed).await?,
            Manifests::Leave => self.describe(&sealed),
        }))
    }

    /// Puts the dead packs that are `meant` into the log as condemned. Returns the files of all of them, and how many
    /// packs were new.
    async fn condemn(
        &self,
        state: &mut LogState,
        now_unix_s: i64,
        meant: impl Fn(&LogState, &str) -> bool + Send,
    ) -> Result<(Files, u64), LedgerError> {
        let files = self.table_files().await?;
        loop {
            let mut dead = self.dead(&files, state, Manifests::Write).await?;
            dead.retain(|pack, _| meant(state, pack));
            let new = to_condemn(state, dead.keys());
            let count = new.len() as u64;
            if new.is_empty() {
                return Ok((dead, 0));
            }
            let condemned = Some(Condemned { packs: new, at_unix_s: now_unix_s });
            // The run's rows stay as they are, so it stays sealed if it is.
            let change = Change { condemned, seal: state.seal.clone(), ..Change::default() };
            if self.append(state, change).await? == Append::Appended {
                return Ok((dead, count));
            }
        }
    }

    async fn clear(
        &self,
        files: &[ObjectMeta],
        delete: bool,
        tally: &mut Deleted,
    ) -> Result<(), LedgerError> {
        for object in files {
            if delete {
                self.store.delete(&object.path).await?;
            }
            tally.add(object);
        }
        Ok(())
    }

    /// A trajectory whose rollout has its result is in the result too; one that lost the race is nothing.
    async fn clear_ungraded(
        &self,
        state: &LogState,
        dry_run: bool,
        tally: &mut Deleted,
    ) -> Result<(), LedgerError> {
        if state.seal.is_none() {
            return Ok(());
        }
        let mut objects = self.store.list(&self.layout.folder("attempts/"), None).await?;
        objects.retain(|object| {
            self.layout.parse_attempt(&object.path).is_some_and(|attempt| {
                attempt.kind == AttemptKind::Ungraded && state.covered.contains(&attempt.rollout)
            })
        });
        self.clear(&objects, !dry_run, tally).await
    }

    async fn clear_checkpoints(&self, dry_run: bool) -> Result<u64, LedgerError> {
        let all = self.checkpoints().await?;
        let old = &all[..all.len().saturating_sub(CHECKPOINTS)];
        for (_, path) in old.iter().filter(|_| !dry_run) {
            self.store.delete(path).await?;
        }
        Ok(old.len() as u64)
    }

    /// Deletes the files of a pack that is not in the log and that this caller will not append.
    pub(crate) async fn discard(&self, pack: &Pack) -> Result<(), LedgerError> {
        for file in &pack.files {
            self.store.delete(&self.layout.object(&file.path)?).await?;
        }
        Ok(())
    }
}

fn to_condemn<'a>(state: &LogState, packs: impl Iterator<Item = &'a String>) -> Vec<String> {
    packs.filter(|pack| !state.is_live(pack) && !state.condemned.contains_key(*pack)).cloned().collect()
}

fn lists(manifest: &Manifest, pack: &str) -> bool {
    let name = format!("/{pack}.parquet");
    manifest.files.iter().any(|file| file.path.ends_with(&name))
}
