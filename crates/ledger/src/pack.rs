//! Packs: results gathered into Parquet files.
//!
//! The results of a pack are written table after table, each in the table's own order, so that one record at a
//! time and one encoded row group are all that memory has to hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use thresher_core::{InstanceId, RolloutId, RolloutRecord, Sha256Hex};
use thresher_store::{ObjectPath, PutMode, put_large};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::info;

use crate::codec;
use crate::layout::Layout;
use crate::log::{Append, Change, Pack, PackKind, READS};
use crate::log_state::LogState;
use crate::manifest::ManifestFile;
use crate::schema::{Encoded, Table, TableWriter};
use crate::{CommittedResult, Ledger, LedgerError};

/// Objects that are decoded and encoded between two looks at the clock of the runtime.
const SLICE: usize = 32;

/// Trajectories compress about this well; used only to guess whether a pack has come together.
pub(crate) const USUAL_COMPRESSION: u64 = 5;

/// The task of each planned rollout.
pub(crate) type Instances = HashMap<RolloutId, InstanceId>;

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
    /// The task, once it is known.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) attempt: u32,
    pub(crate) path: ObjectPath,
    pub(crate) stored_bytes: u64,
    /// How much of the object is the record; `None` where only the whole object's size is known.
    pub(crate) record_bytes: Option<u64>,
}

impl Ledger {
    /// Gathers the results that no pack covers into Parquet files and makes those part of the run (protocol: K5).
    ///
    /// This lists all results; a worker that packs what it committed itself does so with a [`crate::Packer`].
    pub async fn pack(&self, options: &PackOptions) -> Result<Packed, LedgerError> {
        let mut state = self.log_state().await?;
        let mut pending = self.pending(&state, &self.committed().await?)?;
        if !enough(&pending, options) {
            return Ok(Packed::default());
        }
        sort_by_task(&mut pending, &self.instances().await?);
        self.pack_sources(&mut state, pending, options).await
    }

    /// Packs `pending`, which is in the order of tasks (protocol: K2 to K4). On return, `state` is at the last entry that
    /// was read or written.
    pub(crate) async fn pack_sources(
        &self,
        state: &mut LogState,
        mut pending: Vec<Source>,
        options: &PackOptions,
    ) -> Result<Packed, LedgerError> {
        let mut packed = Packed::default();
        while enough(&pending, options) {
            let (pack, used) = self.write_pack(PackKind::Results, &pending, options.raw_bytes).await?;
            let rollouts = pack.covered.len() as u64;
            if self.append_results(state, pack).await? {
                info!(number = state.position, rollouts, "pack is part of the run");
                packed = Packed { packs: packed.packs + 1, rollouts: packed.rollouts + rollouts };
                pending.drain(..used);
            }
            pending.retain(|source| !state.covered.contains(&source.rollout));
        }
        Ok(packed)
    }

    /// Appends `pack`, behind other writers' entries if need be, unless one of them covers a rollout of it or condemns
    /// it: then its files are deleted. Says whether it was appended.
    async fn append_results(&self, state: &mut LogState, pack: Pack) -> Result<bool, LedgerError> {
        loop {
            let covered = pack.covered.iter().any(|rollout| state.covered.contains(rollout));
            if covered || state.condemned.contains_key(&pack.name) {
                self.discard(&pack).await?;
                return Ok(false);
            }
            // Fault rows are those of the last sealing; an entry after it opens the run again.
            let removed = state.fault_packs();
            let change = Change { added: vec![pack.clone()], removed, ..Change::default() };
            if self.append(state, change).await? == Append::Appended {
                return Ok(true);
            }
        }
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
                record_bytes: None,
            })
        };
        fresh.map(source).collect()
    }

    /// The task of each planned rollout: the order of rows is known without reading any result.
    pub(crate) async fn instances(&self) -> Result<Instances, LedgerError> {
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
        let mut first = self.encode(&[Table::Rollouts, Table::TestResults], sources, raw_bytes).await?;
        let mut taken = sources[..first.taken].to_vec();
        sort(&mut taken, RowOrder::Rollout);
        let second = self.encode(&[Table::Steps], &taken, u64::MAX).await?;
        let mut files = Vec::new();
        for (table, encoded) in std::mem::take(&mut first.files).into_iter().chain(second.files) {
            files.push(self.store_table(table, &name, encoded).await?);
        }
        let covered: Vec<RolloutId> = taken.into_iter().map(|source| source.rollout).collect();
        let rollouts = covered.len() as u64;
        let EncodedTables { solved, raw_bytes, taken, .. } = first;
        Ok((Pack { name, kind, files, rollouts, solved, raw_bytes, covered }, taken))
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
        put_large(&*self.store, &self.layout.object(&path)?, bytes, PutMode::Create).await?;
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
        let reads = stream::iter(sources.to_vec()).map(|Source { path, record_bytes, .. }| async move {
            let bytes = match record_bytes {
                Some(length) => self.store.get_range(&path, 0..length).await?,
                None => self.store.get(&path).await?.bytes,
            };
            Ok::<_, LedgerError>((path, bytes))
        });
        reads.buffered(READS).try_collect().await
    }
}

/// Finished files, and what is known of the records in them.
#[derive(Debug)]
pub(crate) struct EncodedTables {
    pub(crate) files: Vec<(Table, Encoded)>,
    pub(crate) taken: usize,
    pub(crate) solved: u64,
    pub(crate) raw_bytes: u64,
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
        Ok(EncodedTables { files, taken: self.taken, solved: self.solved, raw_bytes: self.raw_bytes })
    }
}

/// Runs heavy work where it does not hold up other tasks: on a thread of its own, unless the runtime has only one
/// thread, as simulations do, whose order of events must not depend on another.
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

/// Brings sources into the order of tasks, which `instances` tells.
pub(crate) fn sort_by_task(sources: &mut [Source], instances: &Instances) {
    for source in &mut *sources {
        source.instance = instances.get(&source.rollout).cloned();
    }
    sort(sources, RowOrder::Task);
}

/// Brings sources into the order of a table's rows.
pub(crate) fn sort(sources: &mut [Source], order: RowOrder) {
    match order {
        RowOrder::Task => sources
            .sort_by(|a, b| (&a.instance, &a.rollout, a.attempt).cmp(&(&b.instance, &b.rollout, b.attempt))),
        RowOrder::Rollout => sources.sort_by(|a, b| (&a.rollout, a.attempt).cmp(&(&b.rollout, b.attempt))),
    }
}
