//! What a real Kueue does with a run's KubeJobs, and the coordinator with Kueue. Needs what `tests/cluster.rs` needs, of a cluster
//! that has Kueue, such as one of `scripts/cluster up --kueue`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "what is skipped is printed for scripts/test to collect")]

mod rig;

use k8s_openapi::api::batch::v1::JobSpec;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client, discovery};
use serde_json::{Value, json};
use thresher_coordinator::{Ending, Fleet, Pausing};
use thresher_ledger::{Ledger, RunState};

use rig::{
    Dry, LONG, NAMESPACE, Rig, Seen, apply, apply_cluster_wide, cluster_spec, documents, fleet, ledger,
    manifests, pause, rig, told_to_wait, turn, until,
};

const VERSION: &str = "v1beta2";

/// The cluster with Kueue's webhooks and controllers; `None`, said, where it has none.
async fn kueue() -> Option<(&'static Rig, Client)> {
    let (rig, client) = rig().await?;
    let kind = GroupVersionKind::gvk("kueue.x-k8s.io", VERSION, "ClusterQueue");
    if discovery::pinned_kind(&client, &kind).await.is_err() {
        println!("skipped: this cluster has no Kueue; scripts/cluster up --kueue makes one that has");
        return None;
    }
    Some((rig, client))
}

/// A queue of the overlay with a name of its own, and quota for so many of the tests' slots.
struct Queue {
    name: String,
    cluster: Api<DynamicObject>,
    local: Api<DynamicObject>,
}

impl Queue {
    async fn of(client: &Client, ledger: &Ledger, slots: u32) -> Self {
        let name = ledger.run().to_string();
        for mut object in documents(&manifests().join("overlays/kueue/queue.yaml")) {
            match object["kind"].as_str().unwrap() {
                "ClusterQueue" => {
                    object["metadata"]["name"] = json!(name);
                    object["spec"]["resourceGroups"][0]["flavors"][0]["resources"] = json!([
                        { "name": "cpu", "nominalQuota": format!("{slots}m") },
                        { "name": "memory", "nominalQuota": format!("{}Mi", 8 * slots) },
                        { "name": "ephemeral-storage", "nominalQuota": format!("{slots}Mi") },
                    ]);
                    apply_cluster_wide(client, &object).await;
                }
                "LocalQueue" => {
                    object["metadata"]["name"] = json!(name);
                    object["spec"]["clusterQueue"] = json!(name);
                    apply(client, &object, Dry::No).await;
                }
                _ => apply_cluster_wide(client, &object).await,
            }
        }
        let resource = |kind| ApiResource::from_gvk(&GroupVersionKind::gvk("kueue.x-k8s.io", VERSION, kind));
        let cluster = Api::all_with(client.clone(), &resource("ClusterQueue"));
        let local = Api::namespaced_with(client.clone(), NAMESPACE, &resource("LocalQueue"));
        Self { name, cluster, local }
    }

    /// A fleet in the queue.
    async fn fleet(&self, ledger: &Ledger, rig: &Rig, slots: u32, least: Option<u32>) -> Fleet {
        self.fleet_of(ledger, rig, slots, least, LONG).await
    }

    async fn fleet_of(
        &self,
        ledger: &Ledger,
        rig: &Rig,
        slots: u32,
        least: Option<u32>,
        script: &str,
    ) -> Fleet {
        let mut spec = cluster_spec(&rig.image, slots, script, 4);
        (spec.queue, spec.min_slots) = (Some(self.name.clone()), least);
        fleet(ledger, spec).await
    }

    async fn clear(&self) {
        for queues in [&self.local, &self.cluster] {
            queues.delete(&self.name, &DeleteParams::background()).await.unwrap();
        }
    }
}

async fn spec(seen: &Seen, generation: u32) -> JobSpec {
    seen.job(generation).await.and_then(|job| job.spec).unwrap_or_default()
}

/// Slots of a generation that its queue has admitted: indexes, and pods at a time.
async fn admitted(seen: &Seen, generation: u32) -> Option<(i32, i32)> {
    let spec = spec(seen, generation).await;
    match spec.suspend {
        Some(false) => Some((spec.completions?, spec.parallelism?)),
        _ => None,
    }
}

#[tokio::test]
async fn a_run_begins_when_its_queue_has_room_for_it_and_says_for_how_long_not() {
    let Some((rig, client)) = kueue().await else { return };
    let (first, second) = (ledger("room").await, ledger("no-room").await);
    let queue = Queue::of(&client, &first, 3).await;
    let (one, other) = (queue.fleet(&first, rig, 2, None).await, queue.fleet(&second, rig, 2, None).await);
    one.check().await.unwrap();
    let (seen, waits) = (Seen::of(&client, &first), Seen::of(&client, &second));
    turn(&one, &first).await;
    until(async || seen.running().await == 2).await;
    turn(&other, &second).await;
    let (what, _) = told_to_wait(&other, "insufficient").await;
    assert_eq!(what, format!("{}-1", second.run()));
    assert!(spec(&waits, 1).await.suspend == Some(true) && waits.pods().await.is_empty());
    seen.clear().await;
    until(async || waits.running().await == 2).await;
    waits.clear().await;
    queue.clear().await;
}

#[tokio::test]
async fn a_queue_that_is_nowhere_is_named() {
    let Some((rig, client)) = kueue().await else { return };
    let ledger = ledger("nowhere").await;
    let mut in_queue = cluster_spec(&rig.image, 1, LONG, 4);
    in_queue.queue = Some("no-such-queue".to_owned());
    let fleet = fleet(&ledger, in_queue).await;
    let (what, _) = told_to_wait(&fleet, "no-such-queue doesn't exist").await;
    assert_eq!(what, format!("{}-1", ledger.run()));
    let seen = Seen::of(&client, &ledger);
    assert!(spec(&seen, 1).await.suspend == Some(true) && seen.pods().await.is_empty());
    // Nothing of it waits for ever for a run that nobody wants any more.
    ledger.change_control(|control| control.state = RunState::Cancelled { now: false }).await.unwrap();
    assert_eq!(fleet.follow(&mut |_| {}).await.unwrap(), Ending::Cancelled);
    until(async || seen.job(1).await.is_none()).await;
}

/// Also where more slots may be given up than are admitted, and where fewer are asked for than must be.
#[tokio::test]
async fn fewer_slots_than_asked_for_are_admitted_and_stay() {
    let Some((rig, client)) = kueue().await else { return };
    for (slots, least, asked, room) in [(12, 1, 12, 2), (60, 20, 12, 12), (4, 4, 4, 4)] {
        let ledger = ledger(&format!("part-{slots}")).await;
        let queue = Queue::of(&client, &ledger, room).await;
        let mut in_queue = cluster_spec(&rig.image, slots, LONG, 4);
        (in_queue.queue, in_queue.min_slots) = (Some(queue.name.clone()), Some(least));
        in_queue.max_failed_indexes = Some(5);
        let fleet = fleet(&ledger, in_queue).await;
        let seen = Seen::of(&client, &ledger);
        turn(&fleet, &ledger).await;
        until(async || seen.running().await == room as usize).await;
        for _ in 0..3 {
            turn(&fleet, &ledger).await;
        }
        assert_eq!(admitted(&seen, 1).await, Some((room as i32, room as i32)), "{slots}");
        let job = seen.job(1).await.unwrap();
        assert_eq!(job.metadata.annotations.unwrap()["thresher.dev/slots"], asked.to_string());
        assert!(seen.job(2).await.is_none());
        seen.clear().await;
        queue.clear().await;
    }
}

#[tokio::test]
async fn a_pause_gives_the_quota_back_and_a_resume_asks_for_it_again() {
    let Some((rig, client)) = kueue().await else { return };
    for least in [None, Some(1)] {
        let (paused, other) = (ledger("paused").await, ledger("meanwhile").await);
        let queue = Queue::of(&client, &paused, 3).await;
        let slots = if least.is_some() { 5 } else { 3 };
        let fleet = queue.fleet(&paused, rig, slots, least).await;
        let (seen, meanwhile) = (Seen::of(&client, &paused), Seen::of(&client, &other));
        turn(&fleet, &paused).await;
        until(async || seen.running().await == 3).await;
        pause(&paused, true).await;
        assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held);
        assert!(spec(&seen, 1).await.suspend == Some(true) && seen.running().await == 0);
        turn(&queue.fleet(&other, rig, 3, None).await, &other).await;
        until(async || meanwhile.running().await == 3).await;
        paused.change_control(|control| control.state = RunState::Running).await.unwrap();
        turn(&fleet, &paused).await;
        told_to_wait(&fleet, "insufficient").await;
        // A pause of what waits for its queue keeps it from beginning.
        pause(&paused, false).await;
        assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held);
        meanwhile.clear().await;
        until(async || meanwhile.job(1).await.is_none()).await;
        // The queue has room again, and gives it to who waits.
        turn(&queue.fleet(&other, rig, 3, None).await, &other).await;
        until(async || meanwhile.running().await == 3).await;
        assert_eq!(admitted(&seen, 1).await, None);
        meanwhile.clear().await;
        paused.change_control(|control| control.state = RunState::Running).await.unwrap();
        turn(&fleet, &paused).await;
        until(async || seen.running().await == 3).await;
        assert_eq!(admitted(&seen, 1).await, Some((3, 3)));
        assert_eq!(rig::ending(&seen.status(1).await), None, "draining for a pause fails nothing");
        seen.clear().await;
        queue.clear().await;
    }
}

/// Before Kueue has seen the KubeJob, nothing can be said to it: the pause is not over before it is.
#[tokio::test]
async fn a_run_is_paused_right_after_it_was_submitted() {
    let Some((rig, client)) = kueue().await else { return };
    let (ledger, other) = (ledger("at-once").await, ledger("later").await);
    let queue = Queue::of(&client, &ledger, 2).await;
    let fleet = queue.fleet(&ledger, rig, 2, None).await;
    let seen = Seen::of(&client, &ledger);
    turn(&fleet, &ledger).await;
    pause(&ledger, true).await;
    assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held);
    // The queue gives its room to who comes later.
    turn(&queue.fleet(&other, rig, 2, None).await, &other).await;
    let later = Seen::of(&client, &other);
    until(async || later.running().await == 2).await;
    assert_eq!((admitted(&seen, 1).await, seen.running().await), (None, 0));
    later.clear().await;
    seen.clear().await;
    queue.clear().await;
}

#[tokio::test]
async fn another_number_of_slots_is_admitted_anew() {
    let Some((rig, client)) = kueue().await else { return };
    for least in [None, Some(1)] {
        let ledger = ledger("scaled").await;
        let queue = Queue::of(&client, &ledger, 4).await;
        let fleet = queue.fleet(&ledger, rig, 2, least).await;
        let seen = Seen::of(&client, &ledger);
        turn(&fleet, &ledger).await;
        until(async || seen.running().await == 2).await;
        for (slots, room) in [(4, 4), (1, 1), (3, 3)] {
            ledger.change_control(|control| control.slots = Some(slots)).await.unwrap();
            // What `scale` does where nobody follows: one look.
            turn(&fleet, &ledger).await;
            until(async || seen.running().await == room && seen.pods().await.len() == room).await;
            turn(&fleet, &ledger).await;
            assert_eq!(seen.running().await, room, "{slots}: and so it stays");
        }
        if least.is_some() {
            ledger.change_control(|control| control.slots = Some(9)).await.unwrap();
            turn(&fleet, &ledger).await;
            until(async || seen.running().await == 4 && seen.pods().await.len() == 4).await;
        }
        seen.clear().await;
        queue.clear().await;
    }
}

/// The quota is full with the old generation, whose workers take a while to drain; with partial admission the new one must not
/// be content with what is left beside it.
#[tokio::test]
async fn another_template_is_admitted_with_the_quota_of_the_old_one() {
    let Some((rig, client)) = kueue().await else { return };
    let slow = "trap 'sleep 3; exit 4' TERM; while :; do sleep 1 & wait; done";
    for (least, room) in [(None, 3), (Some(1), 4)] {
        let ledger = ledger("changed").await;
        let queue = Queue::of(&client, &ledger, room).await;
        let seen = Seen::of(&client, &ledger);
        turn(&queue.fleet_of(&ledger, rig, 3, least, slow).await, &ledger).await;
        until(async || seen.running().await == 3).await;
        let other = queue.fleet_of(&ledger, rig, 3, least, &format!("{slow} # changed")).await;
        turn(&other, &ledger).await;
        until(async || seen.job(1).await.is_none() && seen.running().await == 3).await;
        assert_eq!(admitted(&seen, 2).await, Some((3, 3)));
        seen.clear().await;
        queue.clear().await;
    }
}

/// The overlay's own objects, and its class of low priority, which gives way.
#[tokio::test]
async fn a_run_of_low_priority_gives_way_and_goes_on_later() {
    let Some((rig, client)) = kueue().await else { return };
    let (low, high) = (ledger("low").await, ledger("high").await);
    let queue = Queue::of(&client, &low, 2).await;
    let mut giving_way = cluster_spec(&rig.image, 2, LONG, 0);
    giving_way.queue = Some(queue.name.clone());
    giving_way.queue_priority = Some("thresher-low".to_owned());
    let mut first = giving_way.clone();
    first.queue_priority = Some("thresher-test-high".to_owned());
    apply_cluster_wide(&client, &priority("thresher-test-high", 1000)).await;
    let (seen, preempts) = (Seen::of(&client, &low), Seen::of(&client, &high));
    let fleet = fleet(&low, giving_way).await;
    turn(&fleet, &low).await;
    until(async || seen.running().await == 2).await;
    turn(&rig::fleet(&high, first).await, &high).await;
    until(async || preempts.running().await == 2 && seen.pods().await.is_empty()).await;
    turn(&fleet, &low).await;
    preempts.clear().await;
    until(async || seen.running().await == 2).await;
    assert_eq!(rig::ending(&seen.status(1).await), None, "being preempted fails nothing");
    seen.clear().await;
    queue.clear().await;
}

fn priority(name: &str, value: i32) -> Value {
    json!({
        "apiVersion": format!("kueue.x-k8s.io/{VERSION}"), "kind": "WorkloadPriorityClass",
        "metadata": { "name": name }, "value": value,
    })
}
