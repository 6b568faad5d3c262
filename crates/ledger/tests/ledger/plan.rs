//! The plan as it is stored: steps P1 to P6 of PROTOCOL.md without other writers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use thresher_core::plan::{Durations, Plan, SHARD_S, Shard, Sizing};
use thresher_core::{RolloutId, RunId};
use thresher_ledger::{Ledger, LedgerError, PROTOCOL};
use thresher_store::{LocalDir, Memory, ObjectPath, ObjectStore, PutMode};

use crate::fixtures::{self, dataset, memory, plan, sized_plan, spec};

fn open(store: &Arc<Memory>) -> Ledger {
    Ledger::open(store.clone(), "", RunId::new(fixtures::RUN)).unwrap()
}

fn ids(plan: &Plan) -> BTreeSet<&RolloutId> {
    plan.rollouts().map(|rollout| &rollout.rollout_id).collect()
}

/// Everything below `plan/`.
async fn objects(store: &dyn ObjectStore) -> Vec<(String, Bytes)> {
    let mut objects = Vec::new();
    for object in store.list("plan/", None).await.unwrap() {
        objects.push((object.path.to_string(), store.get(&object.path).await.unwrap().bytes));
    }
    objects
}

/// P1 to P5: more samples and tasks add a segment with what is new, in shards of its own.
#[tokio::test]
async fn a_plan_is_stored_once_and_grows_by_what_is_new() {
    let store = Arc::new(Memory::new());
    assert_eq!(open(&store).plan().await.unwrap(), None);
    let first = plan(4, 0..2);
    let stored = open(&store).extend_plan(&spec(2), &dataset(), &first).await.unwrap();
    assert_eq!((&stored.plan, stored.segment), (&first, 1));
    assert_eq!(open(&store).plan().await.unwrap().as_ref(), Some(&stored));
    let written = objects(&*store).await;
    let again = open(&store).extend_plan(&spec(2), &dataset(), &first).await.unwrap();
    assert_eq!(again, stored);
    assert_eq!(objects(&*store).await, written, "nothing is written twice");

    let wanted = plan(5, 0..3);
    let more = open(&store).extend_plan(&spec(3), &dataset(), &wanted).await.unwrap();
    assert_eq!((more.segment, more.spec.samples, more.plan.rollout_count()), (2, 3, 15));
    assert_eq!(more.plan.tasks, wanted.tasks);
    assert_eq!(ids(&more.plan), ids(&wanted));
    let kept = |shard: &&Shard| more.plan.shards.contains(shard);
    assert_eq!(first.shards.iter().filter(kept).count(), first.shards.len(), "shards never change");
    let shards: BTreeSet<_> = more.plan.shards.iter().map(|shard| &shard.shard_id).collect();
    assert_eq!(shards.len(), more.plan.shards.len(), "no shard has the id of an earlier one");
    assert_eq!(more.plan.refused, first.refused, "a row that is refused twice is listed once");
    assert_eq!(open(&store).plan().await.unwrap(), Some(more));
    assert_eq!(objects(&*store).await[..2], written, "what is stored stays");
}

/// P4, P5: byte for byte, on any store.
#[tokio::test]
async fn the_same_job_and_data_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalDir::new(dir.path()));
    let stores: [Arc<dyn ObjectStore>; 3] = [local, Arc::new(Memory::new()), Arc::new(Memory::new())];
    let mut all = Vec::new();
    for store in stores {
        let ledger = Ledger::open(store.clone(), "", RunId::new(fixtures::RUN)).unwrap();
        for (tasks, samples) in [(40, 2), (70, 5)] {
            ledger.extend_plan(&spec(samples), &dataset(), &varied(tasks, samples)).await.unwrap();
        }
        all.push(objects(&*store).await);
    }
    assert_eq!(all[0].len(), 4);
    assert!(all.iter().all(|objects| *objects == all[0]));
}

/// A plan whose tasks take from 1 to 30 minutes.
fn varied(tasks: u32, samples: u32) -> Plan {
    let seconds = (0..tasks).map(|at| (format!("task-{at:03}"), f64::from(at * 997 % 1_741 + 60)));
    sized_plan(tasks, 0..samples, &Sizing { shard_s: SHARD_S, durations: Durations::given(seconds) })
}

/// P1: what is read holds expectations and the order of work, over all segments.
#[tokio::test]
async fn the_order_of_work_is_over_all_segments() {
    let ledger = memory();
    ledger.extend_plan(&spec(2), &dataset(), &varied(20, 2)).await.unwrap();
    let stored = ledger.extend_plan(&spec(4), &dataset(), &varied(30, 4)).await.unwrap();
    assert_eq!(ledger.plan().await.unwrap().as_ref(), Some(&stored));
    let plan = &stored.plan;
    assert_eq!(plan.expected_s(), varied(30, 4).expected_s());
    let image = |shard: &Shard| plan.tasks[shard.rollouts[0].task as usize].image.as_str();
    let mut images: Vec<(&str, u32)> = Vec::new();
    for shards in plan.shards.chunk_by(|a, b| image(a) == image(b)) {
        let rollouts = shards.iter().flat_map(|shard| &shard.rollouts);
        images.push((image(&shards[0]), rollouts.map(|rollout| rollout.expected_s).max().unwrap()));
    }
    assert_eq!(images.len(), 3, "the shards of an image follow each other: {images:?}");
    assert!(images.is_sorted_by(|a, b| a.1 >= b.1 * 4 / 5), "the longest first: {images:?}");
}

/// P3: a dataset that holds a row twice has it once in the plan.
#[tokio::test]
async fn a_rollout_that_is_planned_twice_is_one_rollout() {
    let mut doubled = plan(2, 0..2);
    let again = doubled.shards[0].rollouts.clone();
    doubled.shards[0].rollouts.extend(again);
    let stored = memory().extend_plan(&spec(2), &dataset(), &doubled).await.unwrap();
    assert_eq!(stored.plan, plan(2, 0..2));
}

/// P1, P2: what makes a run itself must agree.
#[tokio::test]
async fn another_job_or_run_is_refused_with_the_difference() {
    let store = Arc::new(Memory::new());
    let ledger = open(&store);
    ledger.extend_plan(&spec(2), &dataset(), &plan(2, 0..2)).await.unwrap();
    let mut other = spec(2);
    other.agent.max_steps = 7;
    let mut grown = dataset();
    grown.name = "others".into();
    let error = ledger.extend_plan(&other, &grown, &plan(2, 0..2)).await.unwrap_err();
    let LedgerError::DifferentJob { differences } = error else { panic!("{error}") };
    assert_eq!(differences, ["agent.max_steps: 40 -> 7", "dataset.name: tasks -> others"]);

    let stranger = Ledger::open(store.clone(), "", RunId::new("other")).unwrap();
    assert!(matches!(stranger.plan().await, Err(LedgerError::WrongRun { .. })));
    assert_eq!(Ledger::find(store, "").await.unwrap().run().as_str(), fixtures::RUN);
    let nothing = Ledger::find(Arc::new(Memory::new()), "runs/x").await;
    assert_eq!(nothing.unwrap_err().to_string(), "there is no run at `runs/x/`");
}

/// P2: limits, places and sizes are no part of what a run is.
#[tokio::test]
async fn budget_concurrency_endpoint_and_durations_may_change() {
    let ledger = memory();
    let mut job = spec(2);
    job.model = serde_json::from_str(r#"{"name": "m", "base_url": "http://one"}"#).unwrap();
    let stored = ledger.extend_plan(&job, &dataset(), &plan(4, 0..2)).await.unwrap();
    let mut changed = job.clone();
    changed.model.as_mut().unwrap().base_url = Some("http://two".into());
    changed.budget.cost_usd = Some(5.0);
    changed.concurrency = Some(64);
    changed.shard_s = 60;
    changed.durations = Some("runs/former".into());
    changed.fault_retries = 7;
    let again = ledger.extend_plan(&changed, &dataset(), &varied(4, 2)).await.unwrap();
    assert_eq!(again, stored, "what is planned keeps its shards and expectations");
    let more = ledger.extend_plan(&changed, &dataset(), &varied(4, 3)).await.unwrap();
    assert_eq!((more.segment, more.spec), (2, changed));
    let added = more.plan.shards.iter().filter(|shard| !stored.plan.shards.contains(shard));
    assert!(added.clone().all(|shard| shard.rollouts.len() == 1), "new shards have the new size");
    assert_eq!(added.count(), 4);
}

/// P1: workers of another protocol refuse the run, whatever else its plan holds.
#[tokio::test]
async fn a_plan_of_another_protocol_is_refused() {
    for (protocol, found) in [(r#""protocol": 2, "content": {"shape": "new"}"#, 2), (r#""content": null"#, 0)]
    {
        let store = Arc::new(Memory::new());
        let path = ObjectPath::parse("plan/00000001.json").unwrap();
        let json = format!(r#"{{"format": 1, "body": {{"run_id": "test-run", "segment": 1, {protocol}}}}}"#);
        store.put(&path, json.into(), PutMode::Create).await.unwrap();
        let ledger = open(&store);
        let refusals = [
            ledger.plan().await.err(),
            ledger.extend_plan(&spec(2), &dataset(), &plan(2, 0..2)).await.err(),
            Ledger::find(store.clone(), "").await.err(),
        ];
        for refusal in refusals {
            let expected = format!(
                "`plan/00000001.json` belongs to protocol {found} and this program speaks {PROTOCOL}: "
            );
            assert!(refusal.unwrap().to_string().starts_with(&expected));
        }
    }
}

/// P6: a worker reads on from the plan that it has, and needs nothing of what is known already.
#[tokio::test]
async fn a_worker_reads_on_from_the_plan_that_it_has() {
    let store = Arc::new(Memory::new());
    let ledger = open(&store);
    let first = ledger.extend_plan(&spec(2), &dataset(), &varied(4, 2)).await.unwrap();
    let second = ledger.extend_plan(&spec(3), &dataset(), &varied(9, 3)).await.unwrap();
    for name in ["plan/00000001.json", "plan/00000001.parquet"] {
        store.delete(&ObjectPath::parse(name).unwrap()).await.unwrap();
    }
    assert_eq!(ledger.plan_after(&first).await.unwrap().as_ref(), Some(&second));
    assert_eq!(ledger.plan_after(&second).await.unwrap(), None);

    let closed = ObjectPath::parse("plan/00000003.json").unwrap();
    let json = format!(
        r#"{{"format": 1, "body": {{"run_id": "test-run", "protocol": {PROTOCOL}, "segment": 3, "content": null}}}}"#
    );
    store.put(&closed, json.into(), PutMode::Create).await.unwrap();
    let passed = ledger.plan_after(&second).await.unwrap().unwrap();
    assert_eq!((&passed.plan, passed.segment), (&second.plan, 3));
    assert_eq!(ledger.plan_after(&passed).await.unwrap(), None);
}
