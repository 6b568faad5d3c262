//! Processes that are around a run and not of its fleet: readers, cleaners, compactors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thresher_core::RolloutId;
use thresher_ledger::{GcOptions, Ledger, LedgerError};
use thresher_store::StoreError;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::broken::Variant;
use super::case::Case;
use super::fate::reward;
use super::judge;
use super::link::Link;

/// Starts them; they go on until they are dropped.
pub(crate) fn welcome(case: &Arc<Case>, visitors: &mut JoinSet<()>) {
    for _ in 0..case.scenario.followers {
        let case = Arc::clone(case);
        visitors.spawn(async move { read(&case).await });
    }
    for troubles in &case.scenario.cleaners {
        let (case, link) = (Arc::clone(case), Link::new(case.next_process(), troubles));
        visitors.spawn(async move { clear(&case, &link).await });
    }
    if case.variant == Variant::ReaderWithoutPosition {
        let case = Arc::clone(case);
        visitors.spawn(async move { read_whole_folder(&case).await });
    }
    if case.variant == Variant::GcWithoutLog {
        let case = Arc::clone(case);
        visitors.spawn(async move { clear_unnamed(&case).await });
    }
}

/// Clears away what nobody needs any more, beside whoever packs and reads.
async fn clear(case: &Case, link: &Link) {
    let ledger = case.ledger(link);
    loop {
        link.sleep(Duration::from_secs(100)).await;
        let now = case.store.elapsed().as_secs() as i64;
        let keep = case.scenario.keep_condemned;
        let options =
            GcOptions { keep, ungraded: case.scenario.seed.is_multiple_of(2), ..GcOptions::at(now) };
        match ledger.gc(&options).await {
            Ok(_) => {}
            Err(LedgerError::Store(error)) if error.is_transient() => {}
            Err(error) => case.store.broken(format!("process {} cannot clear away: {error}", link.process)),
        }
    }
}

/// Broken: takes whatever lies in the folder of a table for the table.
async fn read_whole_folder(case: &Case) {
    let store = case.connect(&Link::new(case.next_process(), &[]));
    loop {
        sleep(Duration::from_secs(60)).await;
        let mut seen = BTreeSet::new();
        for file in store.list("tables/rollouts/", None).await.unwrap_or_default() {
            let Ok(object) = store.get(&file.path).await else { continue };
            for (rollout, _) in judge::rewards(object.bytes) {
                if !seen.insert(rollout.clone()) {
                    case.store.broken(format!("a reader of the folder saw rollout {rollout} twice"));
                }
            }
        }
    }
}

/// Broken: clears away what the manifest of this instant would not name.
async fn clear_unnamed(case: &Case) {
    let store = case.connect(&Link::new(case.next_process(), &[]));
    loop {
        sleep(Duration::from_secs(1)).await;
        let live = case.store.live_files();
        for file in store.list("tables/", None).await.unwrap_or_default() {
            if !live.iter().any(|path| path == file.path.as_str()) {
                // A file that could not be removed now is removed next time.
                drop(store.delete(&file.path).await);
            }
        }
    }
}

/// Reads the whole run again and again: each view has each rollout once, and results stay.
async fn read(case: &Case) {
    let link = Link::new(case.next_process(), &[]);
    let ledger = case.ledger(&link);
    let mut known = BTreeSet::new();
    loop {
        match view(case, &ledger, &known).await {
            Ok(graded) => known = graded,
            Err(LedgerError::Store(StoreError::NotFound { path })) => {
                case.store.broken(format!("a reader was sent to `{path}`, which is not there"));
            }
            Err(LedgerError::Store(_)) => {}
            Err(error) => case.store.broken(format!("a reader failed: {error}")),
        }
        sleep(Duration::from_secs(120)).await;
    }
}

async fn view(
    case: &Case,
    ledger: &Ledger,
    known: &BTreeSet<RolloutId>,
) -> Result<BTreeSet<RolloutId>, LedgerError> {
    let rows = ledger.reader().await?.rollouts().await?;
    let mut seen = BTreeSet::new();
    let mut graded = BTreeSet::new();
    for row in rows {
        if !seen.insert(row.rollout_id.clone()) {
            case.store.broken(format!("a reader saw rollout {} twice", row.rollout_id));
        }
        if let Some(found) = row.outcome.reward() {
            if found != reward(&row.rollout_id) {
                case.store.broken(format!("a reader saw a reward of {} that is not its own", row.rollout_id));
            }
            graded.insert(row.rollout_id);
        }
    }
    if let Some(rollout) = known.difference(&graded).next() {
        case.store.broken(format!("a reader does not see the result of {rollout} any more"));
    }
    Ok(graded)
}
