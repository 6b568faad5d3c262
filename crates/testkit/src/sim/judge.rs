//! The judgement at the end of a case: what the store holds against what was planned and what really happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use thresher_core::{Blame, Outcome, Retry, RolloutId, Sha256Hex, ShardId};
use thresher_ledger::{Ledger, LedgerError, Manifest, RolloutSummary, Standing, StoredPlan};
use thresher_store::{ObjectPath, ObjectStore as _};

use super::case::Case;
use super::fate::{CAP_MICRO_USD, Kind, reward};
use super::visitors;

/// Judges a run that has come to its end.
pub(crate) async fn judge(case: &Case) {
    if let Err(error) = examine(case).await {
        case.store.broken(format!("the run cannot be read: {error}"));
    }
}

async fn examine(case: &Case) -> Result<(), LedgerError> {
    let ledger = case.truth();
    let plan = ledger.plan().await?.expect("the case began with a plan");
    let reader = ledger.reader().await?;
    if !reader.is_sealed() {
        case.store.broken("the run is not sealed");
    }
    let rows = reader.rollouts().await?;
    rollouts(case, &plan, &rows);
    results(case, &ledger, &rows).await?;
    logs(case, &ledger).await?;
    claims(case, &ledger, &plan).await?;
    followers(case, &ledger).await?;
    match ledger.manifest().await? {
        Some(manifest) => files(case, &manifest, reader.position(), &rows).await?,
        None => case.store.broken("there is no manifest"),
    }
    Ok(())
}

/// Each planned rollout has one row; a fault stands only where a fault had to be.
fn rollouts(case: &Case, plan: &StoredPlan, rows: &[RolloutSummary]) {
    let mut seen: BTreeMap<&RolloutId, &RolloutSummary> = BTreeMap::new();
    for row in rows {
        if seen.insert(&row.rollout_id, row).is_some() {
            case.store.broken(format!("rollout {} has two rows", row.rollout_id));
        }
    }
    let planned: Vec<&RolloutId> = plan
        .plan
        .shards
        .iter()
        .flat_map(|shard| &shard.rollouts)
        .map(|planned| &planned.rollout_id)
        .collect();
    if seen.keys().any(|rollout| !planned.contains(rollout)) {
        case.store.broken("there is a row of a rollout that was never planned");
    }
    for rollout in planned {
        match seen.get(rollout).map(|row| &row.outcome) {
            None => case.store.broken(format!("rollout {rollout} has no row")),
            Some(Outcome::Graded(graded)) if graded.reward != reward(rollout) => {
                case.store.broken(format!("rollout {rollout} has a reward that is not its own"));
            }
            Some(Outcome::Graded(_)) => {}
            Some(Outcome::Faulted(fault)) => {
                // All of a worker's tries at storing a trajectory can fall into outages.
                let no_store = fault.blame == Blame::Store && !case.scenario.store.outages.is_empty();
                if no_store || may_stay_faulted(case, rollout) {
                    continue;
                }
                case.store.broken(format!("rollout {rollout} was given up for {}: {fault}", fault.blame));
            }
        }
    }
}

fn may_stay_faulted(case: &Case, rollout: &RolloutId) -> bool {
    match case.scenario.rollouts.kind(rollout) {
        Kind::Hopeless | Kind::Poison => true,
        // Left for another round, by whoever ran it.
        Kind::Flaky(times, Retry::Elsewhere) if case.scenario.rounds_after <= times => true,
        Kind::Sound | Kind::Flaky(..) => {
            let begun = case.store.begun_on(rollout.as_str());
            begun.into_iter().filter(|process| case.witness.is_suspect(*process)).count() >= MAX_LOST_WORKERS
        }
    }
}

/// As the job's default is.
const MAX_LOST_WORKERS: usize = 3;

/// What was committed is what the tables say, and nobody was told of a commit that was none.
async fn results(case: &Case, ledger: &Ledger, rows: &[RolloutSummary]) -> Result<(), LedgerError> {
    let committed = ledger.committed().await?;
    let graded = rows.iter().filter(|row| row.outcome.reward().is_some()).count();
    if graded != committed.len() {
        case.store.broken(format!("{} results, and {graded} rows with a reward", committed.len()));
    }
    let told = *case.told_graded.lock().unwrap_or_else(PoisonError::into_inner);
    if told > committed.len() as u64 {
        let what = format!("workers counted {told} commits of {} results as theirs", committed.len());
        case.store.broken(what);
    }
    Ok(())
}

/// What grading printed is kept with the result that it was printed for.
async fn logs(case: &Case, ledger: &Ledger) -> Result<(), LedgerError> {
    for (rollout, committed) in ledger.committed().await? {
        let record = ledger.result(&committed.shard_id, &rollout).await?.expect("it was listed");
        let log = ledger.load_grader_log(record.grader_log.as_deref().unwrap_or_default()).await?;
        if log != record.nonce.as_bytes() {
            case.store.broken(format!("the log of rollout {rollout} is that of another attempt"));
        }
    }
    Ok(())
}

/// Nobody holds anything any more.
async fn claims(case: &Case, ledger: &Ledger, plan: &StoredPlan) -> Result<(), LedgerError> {
    let shards: Vec<ShardId> = plan.plan.shards.iter().map(|shard| shard.shard_id.clone()).collect();
    for claim in ledger.read_claims(shards).await? {
        if let Standing::Held(holder) = claim.standing() {
            case.store.broken(format!("shard {} is held by {holder} for ever", claim.shard()));
        }
    }
    Ok(())
}

/// Followers have been shown every result, once they have looked again.
async fn followers(case: &Case, ledger: &Ledger) -> Result<(), LedgerError> {
    let committed: BTreeSet<RolloutId> = ledger.committed().await?.into_keys().collect();
    let all = case.followed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for followed in all {
        let mut follower = ledger.follow(followed.position());
        let rest = visitors::take_new(case, &mut follower).await?;
        if let Some(rollout) = followed.take(follower.position(), rest) {
            case.store.broken(format!("a follower was shown rollout {rollout} twice at the end"));
        }
        if followed.rollouts() != committed {
            case.store.broken("a follower was not shown what was committed");
        }
    }
    Ok(())
}

/// The plain list of files is true, and gives each rollout once to whoever reads only that.
async fn files(
    case: &Case,
    manifest: &Manifest,
    position: u64,
    rows: &[RolloutSummary],
) -> Result<(), LedgerError> {
    // Entries that only condemn files leave the rows, and so the manifest, as they are.
    if manifest.log_position > position {
        let what = format!("the manifest is of position {} of {position}", manifest.log_position);
        case.store.broken(what);
    }
    let counts = &manifest.counts;
    if counts.missing != 0 || counts.graded + counts.faulted != counts.planned {
        case.store.broken(format!("the counts do not add up: {counts:?}"));
    }
    let named: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    if case.store.live_files() != named {
        case.store.broken("the manifest's files are not those of the log's live packs");
    }
    let store = case.store.truth();
    let mut raw: BTreeMap<String, Option<f64>> = BTreeMap::new();
    for file in &manifest.files {
        let path = ObjectPath::parse(file.path.clone()).expect("the manifest names paths");
        let Ok(object) = store.get(&path).await else {
            case.store.broken(format!("`{path}` of the manifest is not there"));
            continue;
        };
        if Sha256Hex::of(&object.bytes) != file.sha256 {
            case.store.broken(format!("`{path}` is not the file that the manifest names"));
        }
        if file.table == "rollouts" {
            for (rollout, reward) in rewards(object.bytes) {
                if raw.insert(rollout.clone(), reward).is_some() {
                    case.store.broken(format!("rollout {rollout} is in two rows of the files"));
                }
            }
        }
    }
    let same = rows.len() == raw.len()
        && rows.iter().all(|row| raw.get(row.rollout_id.as_str()) == Some(&row.outcome.reward()));
    if !same {
        case.store.broken("the files do not hold what a reader sees");
    }
    Ok(())
}

/// Rollouts and rewards of a file of `rollouts`, read without the ledger's code.
pub(crate) fn rewards(bytes: bytes::Bytes) -> Vec<(String, Option<f64>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("the file is Parquet");
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["rollout_id", "reward"]);
    let batches = builder.with_projection(mask).build().expect("the columns are there");
    batches.flat_map(|batch| rows(&batch.expect("the rows decode"))).collect()
}

pub(crate) fn rows(batch: &RecordBatch) -> Vec<(String, Option<f64>)> {
    let rollouts = batch.column_by_name("rollout_id").expect("a column").as_string::<i32>();
    let rewards = batch.column_by_name("reward").expect("a column").as_primitive::<Float64Type>();
    let reward = |at| rewards.is_valid(at).then(|| rewards.value(at));
    (0..batch.num_rows()).map(|at| (rollouts.value(at).to_owned(), reward(at))).collect()
}

/// The budget stopped the run: it was not passed by more than what nobody could record. Then more is granted.
pub(crate) async fn budget(case: &Case, truth: &Ledger) {
    let limit = case.scenario.budget_micro_usd.unwrap_or_default();
    let (paid, exposed) = (case.witness.paid_micro_usd(), case.witness.exposed());
    if paid > limit + exposed * CAP_MICRO_USD {
        let what =
            format!("{paid} millionths of a dollar paid of {limit}, with {exposed} attempts on lost workers");
        case.store.broken(what);
    }
    let granted =
        truth.change_control(|control| control.budget = Some(thresher_core::run_spec::BudgetSpec::default()));
    granted.await.expect("the truth has no faults");
}
