//! What a real cluster does with our objects. Needs KUBECONFIG, and an image with a shell in THRESHER_TEST_IMAGE or a cluster
//! of `scripts/cluster`, into which one is put.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "what is skipped is printed for scripts/test to collect")]

mod rig;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ApiResource, DynamicObject, EvictParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use thresher_coordinator::{Campaign, ClusterSpec, Ending, Pausing};
use thresher_core::exit_code;
use thresher_ledger::{Heartbeat, Incarnation, PROTOCOL, RunState};

use rig::{
    Dry, LONG, NAMESPACE, Seen, apply, apply_cluster_wide, cluster_spec, documents, ending, fleet, ledger,
    manifests, pause, rig, told_to_wait, turn, until,
};

#[tokio::test]
async fn every_manifest_is_taken() {
    let Some((_, client)) = rig().await else { return };
    for file in ["worker/job.yaml", "campaign/cronjob.yaml"] {
        for mut object in documents(&manifests().join(file)) {
            // What the coordinator fills in.
            if file.starts_with("worker") {
                object["metadata"]["name"] = json!("run-1");
                object["spec"]["backoffLimitPerIndex"] = json!(4);
                object["spec"]["completions"] = json!(1);
                object["spec"]["parallelism"] = json!(1);
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("thresher:1");
            }
            apply(&client, &object, Dry::Yes).await;
        }
    }
    let campaign = Campaign {
        name: "nightly".to_owned(),
        schedule: "0 2 * * *".to_owned(),
        time_zone: Some("Europe/Berlin".to_owned()),
        job: "name: x\n".to_owned(),
        cluster: "image: thresher:1\n".to_owned(),
        submit_args: Vec::new(),
    };
    let spec = ClusterSpec::parse("cluster.yaml", "image: thresher:1\n").unwrap();
    for object in campaign.objects(&spec).unwrap() {
        apply(&client, &object, Dry::Yes).await;
    }
    // Twice is as good as once.
    campaign.apply(&spec).await.unwrap();
    campaign.apply(&spec).await.unwrap();
    let cron_jobs: Api<CronJob> = Api::namespaced(client.clone(), NAMESPACE);
    assert_eq!(
        cron_jobs.get("nightly").await.unwrap().spec.unwrap().time_zone.as_deref(),
        Some("Europe/Berlin")
    );
    let parameters = kube::api::DeleteParams::background();
    cron_jobs.delete("nightly", &parameters).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    maps.delete("nightly", &parameters).await.unwrap();
}

#[tokio::test]
async fn every_placement_is_taken() {
    let Some((_, _client)) = rig().await else { return };
    for placement in ["sidecar", "pods", "embedded"] {
        let text = format!("image: thresher:1\nplacement: {placement}\nslots: 2\n");
        let spec = ClusterSpec::parse("cluster.yaml", &text).unwrap();
        let ledger = ledger(placement).await;
        fleet(&ledger, spec).await.check().await.unwrap_or_else(|error| panic!("{placement}: {error}"));
    }
}

/// What a worker's end does: the script of slot 0, the end of the KubeJob, and its failed indexes. Slot 1 ends well.
#[tokio::test]
async fn ends_of_workers_do_what_the_policy_says() {
    let Some((rig, client)) = rig().await else { return };
    let cases = [
        ("usage", exit_code::USAGE, 4, ("Failed", "PodFailurePolicy"), None),
        ("data", exit_code::DATA, 4, ("Failed", "PodFailurePolicy"), None),
        ("unavailable", exit_code::UNAVAILABLE, 4, ("Failed", "FailedIndexes"), Some("0")),
        ("failure", exit_code::FAILURE, 0, ("Failed", "FailedIndexes"), Some("0")),
        ("ok", exit_code::OK, 0, ("Complete", "CompletionsReached"), None),
    ];
    for (name, code, backoff, end, failed) in cases {
        let ledger = ledger(name).await;
        let script = format!("[ $JOB_COMPLETION_INDEX = 0 ] && exit {code}; sleep 3");
        turn(&fleet(&ledger, cluster_spec(&rig.image, 2, &script, backoff)).await, &ledger).await;
        let seen = Seen::of(&client, &ledger);
        until(async || ending(&seen.status(1).await).is_some()).await;
        let status = seen.status(1).await;
        assert_eq!(ending(&status), Some((end.0.to_owned(), end.1.to_owned())), "{name}");
        if failed.is_some() {
            assert_eq!(status.failed_indexes.as_deref(), failed, "{name}");
            assert_eq!(status.failed, Some(1), "{name}: it was not tried again");
        }
        seen.clear().await;
    }
}

/// Drained and outage count nothing, although no failure is allowed.
#[tokio::test]
async fn drained_and_outage_are_begun_again_for_ever() {
    let Some((rig, client)) = rig().await else { return };
    for code in [exit_code::DRAINED, exit_code::OUTAGE] {
        let ledger = ledger(&format!("again-{code}")).await;
        turn(&fleet(&ledger, cluster_spec(&rig.image, 1, &format!("exit {code}"), 0)).await, &ledger).await;
        let seen = Seen::of(&client, &ledger);
        until(async || seen.pods().await.len() >= 3).await;
        let status = seen.status(1).await;
        assert_eq!((ending(&status), status.failed_indexes.as_deref()), (None, Some("")), "{code}");
        seen.clear().await;
    }
}

#[tokio::test]
async fn an_evicted_worker_is_replaced_and_counts_nothing() {
    let Some((rig, client)) = rig().await else { return };
    let ledger = ledger("evicted").await;
    turn(
        &fleet(
            &ledger,
            cluster_spec(&rig.image, 1, "trap 'exit 1' TERM; while :; do sleep 1 & wait; done", 0),
        )
        .await,
        &ledger,
    )
    .await;
    let seen = Seen::of(&client, &ledger);
    until(async || seen.running().await == 1).await;
    let first = seen.pods().await[0].name_any();
    seen.pods.evict(&first, &EvictParams::default()).await.unwrap();
    until(async || {
        let pods = seen.pods().await;
        seen.running().await == 1 && pods.iter().any(|pod| pod.name_any() != first)
    })
    .await;
    assert_eq!(ending(&seen.status(1).await), None);
    seen.clear().await;
}

#[tokio::test]
async fn a_fleet_is_scaled_in_place() {
    let Some((rig, client)) = rig().await else { return };
    let ledger = ledger("scale").await;
    let seen = Seen::of(&client, &ledger);
    let mut uid = None;
    for slots in [3, 1, 4] {
        turn(&fleet(&ledger, cluster_spec(&rig.image, slots, LONG, 4)).await, &ledger).await;
        until(async || seen.running().await == slots as usize).await;
        let job = seen.job(1).await.unwrap();
        let spec = job.spec.clone().unwrap();
        assert_eq!((spec.completions, spec.parallelism), (Some(slots as i32), Some(slots as i32)));
        assert_eq!(*uid.get_or_insert_with(|| job.uid().unwrap()), job.uid().unwrap());
        assert_eq!(ending(&seen.status(1).await), None, "{slots}");
    }
    // A queue that admits a part of the slots is not spoken against.
    let fewer = Patch::Merge(json!({ "spec": { "completions": 2, "parallelism": 2 } }));
    seen.jobs.patch(&format!("{}-1", seen.run), &PatchParams::default(), &fewer).await.unwrap();
    turn(&fleet(&ledger, cluster_spec(&rig.image, 4, LONG, 4)).await, &ledger).await;
    assert_eq!(seen.job(1).await.unwrap().spec.unwrap().completions, Some(2));
    assert!(seen.job(2).await.is_none());
    seen.clear().await;
}

/// A worker's word on what it has in flight.
fn beat(worker: &Incarnation, sequence: u64, in_flight: &[&str]) -> Heartbeat {
    let in_flight: Vec<Value> = in_flight
        .iter()
        .map(|rollout| json!({ "shard": "s", "rollout": rollout, "attempt": 1, "nonce": "n" }))
        .collect();
    let beat = json!({
        "protocol": PROTOCOL, "incarnation": worker, "sequence": sequence, "round": 1, "state": "waiting", "host": "h",
        "slots": 1, "shards": [], "in_flight": in_flight, "unpacked": { "graded": 0, "solved": 0 },
        "done": { "graded": 0, "solved": 0, "faulted": 0 }, "spent": { "micro_usd": 0, "tokens": 0, "rollouts": 0 },
    });
    serde_json::from_value(beat).unwrap()
}

#[tokio::test]
async fn a_pause_ends_the_pods_when_nothing_is_in_flight_and_a_resume_brings_them_back() {
    let Some((rig, client)) = rig().await else { return };
    let ledger = ledger("pause").await;
    let fleet = fleet(&ledger, cluster_spec(&rig.image, 2, LONG, 0)).await;
    let seen = Seen::of(&client, &ledger);
    turn(&fleet, &ledger).await;
    until(async || seen.running().await == 2).await;
    let suspended = async || seen.job(1).await.unwrap().spec.unwrap().suspend == Some(true);
    let worker = ledger.incarnation();
    ledger.beat(&beat(&worker, 1, &["r"])).await.unwrap();
    pause(&ledger, false).await;
    turn(&fleet, &ledger).await;
    turn(&fleet, &ledger).await;
    assert!(!suspended().await, "a rollout is in flight");
    ledger.beat(&beat(&worker, 2, &[])).await.unwrap();
    assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held);
    assert!(suspended().await && seen.running().await == 0);
    ledger.change_control(|control| control.state = RunState::Running).await.unwrap();
    turn(&fleet, &ledger).await;
    until(async || seen.running().await == 2).await;
    assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Resumed);
    ledger.beat(&beat(&worker, 3, &["r"])).await.unwrap();
    pause(&ledger, true).await;
    assert_eq!(fleet.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held, "it was not to wait");
    assert_eq!(ending(&seen.status(1).await), None, "draining for a pause fails nothing");
    seen.clear().await;
}

/// What `submit` does where nobody follows: one look.
#[tokio::test]
async fn another_template_is_another_generation_after_one_look() {
    let Some((rig, client)) = rig().await else { return };
    let ledger = ledger("template").await;
    let seen = Seen::of(&client, &ledger);
    turn(&fleet(&ledger, cluster_spec(&rig.image, 2, LONG, 4)).await, &ledger).await;
    until(async || seen.running().await == 2).await;
    let other = fleet(&ledger, cluster_spec(&rig.image, 2, &format!("{LONG} # changed"), 4)).await;
    turn(&other, &ledger).await;
    let second = seen.job(2).await.unwrap();
    let pods = second.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
    assert_eq!(pods["thresher.dev/older-generations"], "drain");
    until(async || seen.job(1).await.is_none() && seen.running().await == 2).await;
    let pods = seen.pods().await;
    let generation = |pod: &Pod| pod.labels()["thresher.dev/generation"].clone();
    assert!(pods.iter().all(|pod| generation(pod) == "2"), "nothing of the first one is left");
    seen.clear().await;
}

#[tokio::test]
async fn a_coordinator_with_another_template_than_the_last_submitted_one_makes_nothing() {
    let Some((rig, client)) = rig().await else { return };
    let ledger = ledger("superseded").await;
    let seen = Seen::of(&client, &ledger);
    let old = fleet(&ledger, cluster_spec(&rig.image, 2, LONG, 4)).await;
    let new = fleet(&ledger, cluster_spec(&rig.image, 2, &format!("{LONG} # changed"), 4)).await;
    ledger.change_control(|control| control.template = Some(old.template().to_owned())).await.unwrap();
    turn(&old, &ledger).await;
    let superseded = async {
        let ending = old.follow(&mut |_| {}).await.unwrap();
        assert_eq!(ending, Ending::Superseded(new.template().to_owned()));
    };
    let submitted = async {
        until(async || seen.running().await == 2).await;
        ledger.change_control(|control| control.template = Some(new.template().to_owned())).await.unwrap();
        turn(&new, &ledger).await;
    };
    tokio::join!(superseded, submitted);
    until(async || seen.job(1).await.is_none() && seen.running().await == 2).await;
    // It still does what operators say to what is there, without a change of what pods are made from.
    let template = async || seen.job(2).await.unwrap().spec.unwrap().template;
    let before = template().await;
    ledger.change_control(|control| control.slots = Some(3)).await.unwrap();
    turn(&old, &ledger).await;
    until(async || seen.running().await == 3).await;
    pause(&ledger, true).await;
    assert_eq!(old.follow_pause(&mut |_| {}).await.unwrap(), Pausing::Held);
    ledger.change_control(|control| control.state = RunState::Running).await.unwrap();
    turn(&old, &ledger).await;
    until(async || seen.running().await == 3).await;
    assert_eq!(template().await, before);
    assert!(seen.job(3).await.is_none());
    seen.clear().await;
}

/// Kueue's workloads as far as a pause needs them, served in one version.
fn workloads(version: &str) -> Value {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "workloads.kueue.x-k8s.io" , "annotations": {
            "api-approved.kubernetes.io": "unapproved, for a test",
        } },
        "spec": {
            "group": "kueue.x-k8s.io",
            "scope": "Namespaced",
            "names": { "kind": "Workload", "plural": "workloads", "singular": "workload" },
            "versions": [{
                "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

#[tokio::test]
async fn a_queues_generation_is_held_by_its_workload_in_the_version_that_is_served() {
    let Some((rig, client)) = rig().await else { return };
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let definition = "workloads.kueue.x-k8s.io";
    if definitions.get_opt(definition).await.unwrap().is_some_and(|found| {
        found
            .annotations()
            .get("api-approved.kubernetes.io")
            .is_none_or(|word| !word.starts_with("unapproved"))
    }) {
        println!("skipped: this cluster has a Kueue of its own");
        return;
    }
    for version in ["v1beta1", "v1beta2"] {
        // Another version of the same objects cannot replace the one that is stored.
        remove(&definitions, definition).await;
        let ledger = ledger(&format!("queue-{version}")).await;
        let mut spec = cluster_spec(&rig.image, 1, LONG, 4);
        spec.queue = Some("q".to_owned());
        let fleet = fleet(&ledger, spec).await;
        // Without Kueue the KubeJob would begin at once, which is not what was asked for.
        let is_refused = async || {
            fleet.check().await.is_err_and(|error| error.to_string().contains("is Kueue installed?"))
        };
        until(is_refused).await;
        apply_cluster_wide(&client, &workloads(version)).await;
        let seen = Seen::of(&client, &ledger);
        turn(&fleet, &ledger).await;
        let job = seen.job(1).await.unwrap();
        let kind = GroupVersionKind::gvk("kueue.x-k8s.io", version, "Workload");
        let resource = ApiResource::from_gvk(&kind);
        let workloads: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        let mut workload = DynamicObject::new(&format!("{}-1", ledger.run()), &resource);
        let of_job = ("kueue.x-k8s.io/job-uid".to_owned(), job.uid().unwrap());
        workload.metadata.labels = Some([of_job].into());
        workload.data = json!({ "spec": { "active": true } });
        let name = workload.name_any();
        // A new kind is served a moment after it is made.
        until(async || workloads.create(&Default::default(), &workload).await.is_ok()).await;
        pause(&ledger, true).await;
        turn(&fleet, &ledger).await;
        let active = async || workloads.get(&name).await.unwrap().data["spec"]["active"].clone();
        assert_eq!(active().await, json!(false), "{version}");
        let spec = seen.job(1).await.unwrap().spec.unwrap();
        assert_ne!(spec.suspend, Some(true), "{version}: suspending is the queue's");
        seen.clear().await;
    }
    remove(&definitions, definition).await;
}

async fn remove(objects: &Api<DynamicObject>, name: &str) {
    if let Err(error) = objects.delete(name, &kube::api::DeleteParams::foreground()).await {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
    }
    until(async || objects.get_opt(name).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_pod_without_its_image_is_named_with_the_reason() {
    let Some((_, client)) = rig().await else { return };
    let ledger = ledger("no-image").await;
    let mut spec = cluster_spec("docker.io/thresher-test/there-is-none:1", 1, LONG, 4);
    spec.worker_template["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let fleet = fleet(&ledger, spec).await;
    let (pod, reason) = told_to_wait(&fleet, "ErrImageNeverPull").await;
    assert!(pod.starts_with(&format!("{}-1-0-", ledger.run())), "{pod}");
    assert!(reason.contains("there-is-none"), "{reason}");
    // It would wait for ever, also for a run that nobody wants any more.
    ledger.change_control(|control| control.state = RunState::Cancelled { now: false }).await.unwrap();
    assert_eq!(fleet.follow(&mut |_| {}).await.unwrap(), Ending::Cancelled);
    assert!(Seen::of(&client, &ledger).pods().await.is_empty());
    Seen::of(&client, &ledger).clear().await;
}
