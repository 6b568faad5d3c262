//! Packs: results gathered into Parquet files.
//!
//! The results of a pack are written table after table, each in the table's own order, so that one record at a
//! time and one encoded row group are all that memory has to hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use thresher_core::{InstanceId, RolloutId, RolloutRecord, Sha256Hex};
use thresher_store::ObjectPath;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::info;

use crate::codec;
use crate::layout::Layout;
use crate::log::{Append, LogState, Pack, PackKind, READS};
use crate::manifest::ManifestFile;
use crate::schema::{Encoded, Table, TableWriter};
use crate::{CommittedResult, Ledger, LedgerError, RunLock};

/// Objects that are decoded and encoded between two looks at the clock of the runtime.
const SLICE: usize = 32;

/// Trajectories compress about this well; used only to guess whether a pack has come together.
const USUAL_COMPRESSION: u64 = 5;

/// How results are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Raw bytes after which a pack is closed and the next one begun.
    pub raw_bytes: u64,
    /// Whether a pack may be smaller.
    pub when: PackWhen,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { raw_bytes: 128 << 20, when: PackWhen::Always }
    }
}

/// Whether there is enough to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackWhen {
    /// Pack whatever no pack covers yet.
    Always,
    /// Only when about a whole pack has come together.
    Full,
}

/// What packing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Packs that became part of the run.
    pub packs: u32,
    /// Rollouts in them.
    pub rollouts: u64,
}

/// The order of rows within a file; [`Table::sorted_by`] names its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// By task, then rollout: samples of a task are neighbours.
    Task,
    /// By rollout: the steps of one rollout are found by its id.
    Rollout,
}

/// A record's object, and what it is sorted by.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) rollout: RolloutId,
    /// The task, once [`Ledger::order`] has looked it up.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) attempt: u32,
    pub(crate) path: ObjectPath,
    pub(crate) stored_bytes: u64,
}

impl Ledger {
    /// Gathers the results that no pack covers into Parquet files and makes those part of the run.
    pub async fn pack(&self, options: &PackOptions) -> Result<Packed, LedgerError> {
        let mut packed = Packed::default();
        let mut state = self.log_state().await?;
        let mut pending = self.pending(&state, &self.committed().await?)?;
        if enough(&pending, options) {
            self.order(&mut pending).await?;
        }
        while enough(&pending, options) {
            let (pack, used) = self.write_pack(PackKind::Results, &pending, options.raw_bytes).await?;
            let rollouts = pack.covered.len() as u64;
            let after = self.append_results(state, pack).await?;
            if let Some(number) = after.appended {
                info!(number, rollouts, "pack is part of the run");
                packed = Packed { packs: packed.packs + 1, rollouts: packed.rollouts + rollouts };
                pending.drain(..used);
            }
            state = after.state;
            pending.retain(|source| !state.covered.contains(&source.rollout));
        }
        Ok(packed)
    }

    /// Appends `pack`, behind other writers' entries if need be, unless one of them covers a rollout of it.
    async fn append_results(&self, mut state: LogState, pack: Pack) -> Result<AfterAppend, LedgerError> {
        loop {
            // Fault rows are those of the last sealing; an entry after it opens the run again.
            let stale = state.of_kind(PackKind::Faults).map(|faults| faults.name.clone()).collect();
            state = match self.append(state, vec![pack.clone()], stale, None).await? {
                Append::Appended(state) => {
                    return Ok(AfterAppend { appended: Some(state.position), state });
                }
                Append::Lost(state) => state,
            };
            if pack.covered.iter().any(|rollout| state.covered.contains(rollout)) {
                self.discard(&pack).await?;
                return Ok(AfterAppend { appended: None, state });
            }
        }
    }

    /// Removes table files that no log entry has ever named and returns how many there were: a packer left them that
    /// was killed between writing its files and its entry (protocol: packs). They harm no reader of the manifest, but
    /// would double rows for one that reads whole folders.
    ///
    /// The run's lock is asked for because the files of a living packer have no name yet either.
    pub async fn sweep(&self, _lock: &RunLock) -> Result<u64, LedgerError> {
        let named = self.log_state().await?.named;
        let mut swept = 0;
        for object in self.store.list(&self.layout.folder("tables/"), None).await? {
            let file = object.path.as_str().rsplit('/').next().unwrap_or_default();
            if file.strip_suffix(".parquet").is_some_and(|pack| !named.contains(pack)) {
                self.store.delete(&object.path).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes files that no log entry names, and that no entry will.
    pub(crate) async fn discard(&self, pack: &Pack) -> Result<(), LedgerError> {
        for file in &pack.files {
            self.store.delete(&self.layout.object(&file.path)?).await?;
        }
        Ok(())
    }

    /// Of the `committed` results those that no pack covers.
    pub(crate) fn pending(
        &self,
        state: &LogState,
        committed: &BTreeMap<RolloutId, CommittedResult>,
    ) -> Result<Vec<Source>, LedgerError> {
        let fresh = committed.iter().filter(|(rollout, _)| !state.covered.contains(rollout));
        let source = |(rollout, result): (&RolloutId, &CommittedResult)| {
            Ok(Source {
                rollout: rollout.clone(),
                instance: None,
                attempt: 0,
                path: self.layout.result(&result.shard_id, rollout)?,
                stored_bytes: result.bytes,
            })
        };
        fresh.map(source).collect()
    }

    /// Brings sources into the order of tasks.
    pub(crate) async fn order(&self, sources: &mut [Source]) -> Result<(), LedgerError> {
        let instances = self.instances().await?;
        for source in &mut *sources {
            source.instance = instances.get(&source.rollout).cloned();
        }
        sort(sources, RowOrder::Task);
        Ok(())
    }

    /// The task of each planned rollout: the order of rows is known without reading any result.
    pub(crate) async fn instances(&self) -> Result<HashMap<RolloutId, InstanceId>, LedgerError> {
        let Some(stored) = self.plan().await? else { return Ok(HashMap::new()) };
        let plan = &stored.plan;
        let rollouts = plan.shards.iter().flat_map(|shard| &shard.rollouts);
        Ok(rollouts
            .map(|rollout| {
                (rollout.rollout_id.clone(), plan.tasks[rollout.task as usize].instance_id.clone())
            })
            .collect())
    }

    /// Writes the files of one pack from the first of `sources`, as many as make up `raw_bytes`. Returns also how
    /// many it took. Nobody sees the files before a log entry names them.
    pub(crate) async fn write_pack(
        &self,
        kind: PackKind,
        sources: &[Source],
        raw_bytes: u64,
    ) -> Result<(Pack, usize), LedgerError> {
        let name = self.ids.fresh();
        let first = self.encode(&[Table::Rollouts, Table::TestResults], sources, raw_bytes).await?;
        let mut taken = sources[..first.taken].to_vec();
        sort(&mut taken, RowOrder::Rollout);
        let second = self.encode(&[Table::Steps], &taken, u64::MAX).await?;
        let mut files = Vec::new();
        for (table, encoded) in first.files.into_iter().chain(second.files) {
            files.push(self.store_table(table, &name, encoded).await?);
        }
        let covered = taken.into_iter().map(|source| source.rollout).collect();
        Ok((Pack { name, kind, files, covered, solved: first.solved }, first.taken))
    }

    /// Stores a file of a pack.
    pub(crate) async fn store_table(
        &self,
        table: Table,
        pack: &str,
        encoded: Encoded,
    ) -> Result<ManifestFile, LedgerError> {
        let path = Layout::table_file(table, pack);
        let Encoded { bytes, rows } = encoded;
        let bytes = Bytes::from(bytes);
        let file = ManifestFile {
            table: table.name().to_owned(),
            path: path.clone(),
            rows,
            bytes: bytes.len() as u64,
            sha256: Sha256Hex::of(&bytes),
        };
        // The name is random, so the object can only be our own from a try whose answer was lost.
        self.create(&self.layout.object(&path)?, bytes).await?;
        Ok(file)
    }

    /// Encodes the rows that `sources` have in `tables`, until `raw_bytes` are reached.
    pub(crate) async fn encode(
        &self,
        tables: &[Table],
        sources: &[Source],
        raw_bytes: u64,
    ) -> Result<EncodedTables, LedgerError> {
        let mut encoder = Encoder::new(self, tables, raw_bytes)?;
        for slice in sources.chunks(SLICE) {
            let objects = self.fetch(slice).await?;
            // Decoding and encoding would hold up every other rollout of this thread.
            encoder = off_runtime(move || encoder.take(&objects)).await?;
            if encoder.full() {
                break;
            }
        }
        off_runtime(move || encoder.finish()).await
    }

    async fn fetch(&self, sources: &[Source]) -> Result<Vec<(ObjectPath, Bytes)>, LedgerError> {
        let paths: Vec<ObjectPath> = sources.iter().map(|source| source.path.clone()).collect();
        let reads = stream::iter(paths).map(|path| async move {
            let object = self.store.get(&path).await?;
            Ok::<_, LedgerError>((path, object.bytes))
        });
        reads.buffered(READS).try_collect().await
    }
}

struct AfterAppend {
    state: LogState,
    appended: Option<u64>,
}

/// Finished files, and what is known of the records in them.
#[derive(Debug)]
pub(crate) struct EncodedTables {
    pub(crate) files: Vec<(Table, Encoded)>,
    pub(crate) taken: usize,
    pub(crate) solved: u64,
}

struct Encoder {
    writers: Vec<(Table, TableWriter)>,
    limit: u64,
    raw_bytes: u64,
    taken: usize,
    solved: u64,
}

impl Encoder {
    fn new(ledger: &Ledger, tables: &[Table], limit: u64) -> Result<Self, LedgerError> {
        let writers = tables.iter().map(|table| Ok((*table, TableWriter::new(*table, ledger.run())?)));
        let writers = writers.collect::<Result<_, LedgerError>>()?;
        Ok(Self { writers, limit, raw_bytes: 0, taken: 0, solved: 0 })
    }

    fn full(&self) -> bool {
        self.raw_bytes >= self.limit
    }

    fn take(mut self, objects: &[(ObjectPath, Bytes)]) -> Result<Self, LedgerError> {
        for (path, bytes) in objects {
            let (record, raw_bytes) = codec::unpack::<RolloutRecord>(path.as_str(), bytes)?;
            let record = Arc::new(record);
            for (_, writer) in &mut self.writers {
                writer.append(&record, raw_bytes)?;
            }
            self.raw_bytes += raw_bytes;
            self.taken += 1;
            self.solved += u64::from(record.outcome.is_solved());
            if self.full() {
                break;
            }
        }
        Ok(self)
    }

    fn finish(self) -> Result<EncodedTables, LedgerError> {
        let mut files = Vec::new();
        for (table, writer) in self.writers {
            files.extend(writer.finish()?.map(|encoded| (table, encoded)));
        }
        Ok(EncodedTables { files, taken: self.taken, solved: self.solved })
    }
}

/// Runs heavy work on a thread of its own; in place on a runtime that has one thread, where simulations need each
/// step to follow from the one before.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}

fn enough(pending: &[Source], options: &PackOptions) -> bool {
    let stored: u64 = pending.iter().map(|source| source.stored_bytes).sum();
    match options.when {
        PackWhen::Always => !pending.is_empty(),
        PackWhen::Full => !pending.is_empty() && stored * USUAL_COMPRESSION >= options.raw_bytes,
    }
}

/// Brings sources into the order of a table's rows.
pub(crate) fn sort(sources: &mut [Source], order: RowOrder) {
    match order {
        RowOrder::Task => sources
            .sort_by(|a, b| (&a.instance, &a.rollout, a.attempt).cmp(&(&b.instance, &b.rollout, b.attempt))),
        RowOrder::Rollout => sources.sort_by(|a, b| (&a.rollout, a.attempt).cmp(&(&b.rollout, b.attempt))),
    }
}
