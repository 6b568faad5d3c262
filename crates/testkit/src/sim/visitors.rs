//! Processes that are around a run and not of its fleet: readers, cleaners, compactors.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thresher_core::RolloutId;
use thresher_ledger::{CompactOptions, Follower, GcOptions, Ledger, LedgerError, Position, Table};
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
    for _ in 0..case.scenario.followers {
        let followed = Followed::default();
        case.followed.lock().unwrap_or_else(PoisonError::into_inner).push(followed.clone());
        let case = Arc::clone(case);
        visitors.spawn(async move { follow(&case, &followed).await });
    }
    for troubles in &case.scenario.compactors {
        let (case, link) = (Arc::clone(case), Link::new(case.next_process(), troubles));
        visitors.spawn(async move { compact(&case, &link).await });
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

/// What a follower has dealt with: what it would store with its output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followed(Arc<Mutex<(Option<Position>, BTreeSet<RolloutId>)>>);

impl Followed {
    pub(crate) fn position(&self) -> Option<Position> {
        self.lock().0
    }

    /// Takes rollouts that were reported between its position and `position`; one of them, if it had it before.
    pub(crate) fn take(&self, position: Position, rollouts: BTreeSet<RolloutId>) -> Option<RolloutId> {
        let mut followed = self.lock();
        let twice = followed.1.intersection(&rollouts).next().cloned();
        followed.0 = Some(position);
        followed.1.extend(rollouts);
        twice
    }

    pub(crate) fn rollouts(&self) -> BTreeSet<RolloutId> {
        self.lock().1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Position>, BTreeSet<RolloutId>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the run: takes what is new, again and again, each time some of it as a process that begins anew.
async fn follow(case: &Case, followed: &Followed) {
    loop {
        let ledger = case.ledger(&Link::new(case.next_process(), &[]));
        let mut follower = ledger.follow(followed.position());
        for _ in 0..4 {
            match take_new(case, &mut follower).await {
                Ok(rollouts) => {
                    if let Some(rollout) = followed.take(follower.position(), rollouts) {
                        case.store.broken(format!("a follower was shown rollout {rollout} twice"));
                    }
                }
                Err(LedgerError::Store(error)) if error.is_transient() => break,
                Err(error) => {
                    case.store.broken(format!("a follower failed: {error}"));
                    break;
                }
            }
            sleep(Duration::from_secs(90)).await;
        }
    }
}

/// The rollouts that are new to a follower, whose rows are there.
pub(crate) async fn take_new(
    case: &Case,
    follower: &mut Follower,
) -> Result<BTreeSet<RolloutId>, LedgerError> {
    let mut taken = BTreeSet::new();
    for new in follower.next().await? {
        let mut rows = BTreeSet::new();
        for batch in new.batches(Table::Rollouts, &["rollout_id", "reward"]).await? {
            rows.extend(judge::rows(&batch).into_iter().map(|(rollout, _)| RolloutId::new(rollout)));
        }
        if rows != new.rollouts.iter().cloned().collect() {
            case.store.broken(format!("pack {} gave a follower other rows than it was told", new.pack));
        }
        if let Some(rollout) = taken.intersection(&rows).next() {
            case.store.broken(format!("a follower was shown rollout {rollout} in two packs"));
        }
        taken.extend(rows);
    }
    Ok(taken)
}

/// Merges small packs, beside whoever packs, reads and clears away.
async fn compact(case: &Case, link: &Link) {
    let ledger = case.ledger(link);
    let options = CompactOptions { raw_bytes: case.scenario.pack_bytes.saturating_mul(8), at_least: 2 };
    loop {
        link.sleep(Duration::from_secs(150)).await;
        match ledger.compact(&options).await {
            Ok(_) => {}
            Err(LedgerError::Store(error)) if error.is_transient() => {}
            Err(error) => case.store.broken(format!("process {} cannot compact: {error}", link.process)),
        }
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
        let opened = case.store.elapsed();
        match view(case, &ledger, &known).await {
            Ok(graded) => known = graded,
            Err(LedgerError::Store(error)) if error.is_transient() => {}
            // A view that is older than what is kept for it may be told to open anew.
            Err(LedgerError::Outdated { .. })
                if case.store.elapsed() - opened >= case.scenario.keep_condemned => {}
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
