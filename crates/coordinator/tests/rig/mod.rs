//! What tests on a real cluster share: the cluster made ready, runs that nobody works on, a look at their objects.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use thresher_coordinator::{ClusterSpec, Fleet, FleetEvent};
use thresher_core::id::{InstanceId, RolloutId, RunId, Sha256Hex};
use thresher_core::plan::{Plan, Sizing, TaskHandle};
use thresher_core::task::Family;
use thresher_ledger::{Control, DatasetIdentity, Ledger, RunState};
use thresher_store::Memory;
use tokio::sync::OnceCell;

pub(crate) const NAMESPACE: &str = "thresher";
/// A worker that works until it is told to go, and then goes as workers do.
pub(crate) const LONG: &str = "trap 'exit 4' TERM; while :; do sleep 1 & wait; done";

/// A cluster with the base applied, and an image with a shell in it.
pub(crate) struct Rig {
    pub(crate) image: String,
}

/// The cluster, made ready once; `None` says why it cannot be used.
pub(crate) async fn rig() -> Option<(&'static Rig, Client)> {
    static RIG: OnceCell<Option<Rig>> = OnceCell::const_new();
    if std::env::var_os("KUBECONFIG").is_none() {
        println!("skipped: no KUBECONFIG; eval \"$(scripts/cluster up)\" starts a cluster");
        return None;
    }
    // A client belongs to the runtime that made it, and each test has its own.
    let client = Client::try_default().await.unwrap();
    let rig = RIG.get_or_init(|| prepare(client.clone())).await.as_ref();
    if rig.is_none() {
        println!("skipped: neither THRESHER_TEST_IMAGE nor Docker and a cluster of scripts/cluster");
    }
    Some((rig?, client))
}

async fn prepare(client: Client) -> Option<Rig> {
    let base = manifests().join("base");
    // Namespaces before what is in them.
    for file in ["namespaces.yaml", "accounts.yaml", "networks.yaml"] {
        for object in documents(&base.join(file)) {
            apply(&client, &object, Dry::No).await;
        }
    }
    Some(Rig { image: image()? })
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub(crate) fn manifests() -> PathBuf {
    repository().join("manifests")
}

pub(crate) fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// The name of an image with a shell and `sleep` that the cluster has.
fn image() -> Option<String> {
    if let Ok(image) = std::env::var("THRESHER_TEST_IMAGE") {
        return Some(image);
    }
    let state = std::env::var("THRESHER_CLUSTER_STATE").ok()?;
    let script = r#"
        set -eu
        root=$(mktemp -d)
        trap 'rm -rf "$root"' EXIT
        mkdir -p "$root/bin"
        cp -L "$(command -v dash)" "$root/bin/sh"
        cp -L "$(command -v sleep)" "$root/bin/sleep"
        for library in $(ldd "$root/bin/sh" "$root/bin/sleep" | grep -o '/[^ :]*\.so[^ ]*' | sort -u); do
          mkdir -p "$root$(dirname "$library")"
          cp -L "$library" "$root$library"
        done
        tar -C "$root" -c . | docker import --change 'ENV PATH=/bin' - thresher-test/shell:1
        scripts/cluster --state "$1" load thresher-test/shell:1
    "#;
    let made =
        Command::new("sh").args(["-c", script, "sh", &state]).current_dir(repository()).output().unwrap();
    if !made.status.success() {
        println!("{}", String::from_utf8_lossy(&made.stderr));
        return None;
    }
    Some("docker.io/thresher-test/shell:1".to_owned())
}

#[derive(PartialEq)]
pub(crate) enum Dry {
    No,
    Yes,
}

/// Applies an object as `kubectl apply --server-side --validate=strict` does.
pub(crate) async fn apply(client: &Client, object: &Value, dry: Dry) {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None if kind == "Namespace" => Api::all_with(client.clone(), &resource),
        None => Api::namespaced_with(client.clone(), NAMESPACE, &resource),
    };
    let parameters = PatchParams {
        dry_run: dry == Dry::Yes,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("thresher-test").force()
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let applied = api.patch(name, &parameters, &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

pub(crate) fn cluster_spec(image: &str, slots: u32, script: &str, backoff: u32) -> ClusterSpec {
    let pod = json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "worker",
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", script],
            "args": [],
            "envFrom": [],
            "resources": { "requests": { "cpu": "1m", "memory": "8Mi", "ephemeral-storage": "1Mi" } },
        }],
    });
    let spec = json!({
        "image": image,
        "placement": "pods",
        "slots": slots,
        "backoff_limit_per_index": backoff,
        "drain_s": 5,
        "worker_template": { "spec": pod },
    });
    serde_json::from_value(spec).unwrap()
}

/// A run of twelve shards that nobody works on, with a name that no earlier test left objects of.
pub(crate) async fn ledger(name: &str) -> Ledger {
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let run = RunId::new(format!("test-{name}-{}", began.as_millis() % 100_000_000));
    let ledger = Ledger::open(Arc::new(Memory::new()), "runs/test", run).unwrap();
    let spec = serde_json::from_value(json!({ "dataset": { "path": "tasks.jsonl" } })).unwrap();
    let fingerprint = Sha256Hex::of(b"dataset");
    let dataset = DatasetIdentity { name: "tasks".into(), family: Family::SweBench, fingerprint, rows: 12 };
    let tasks = (0..12u32).map(|at| TaskHandle {
        instance_id: InstanceId::new(format!("task-{at}")),
        row_sha256: Sha256Hex::of(&at.to_le_bytes()),
        image: format!("registry/image:{at}"),
        row: at.into(),
    });
    let id = |task: &TaskHandle, _| RolloutId::new(&task.row_sha256.as_str()[..32]);
    let plan = Plan::sized(tasks.collect(), Vec::new(), 0..1, &Sizing::default(), id);
    ledger.extend_plan(&spec, &dataset, &plan).await.unwrap();
    ledger
}

pub(crate) async fn fleet(ledger: &Ledger, spec: ClusterSpec) -> Fleet {
    Fleet::new(ledger.clone(), "memory:", spec).await.unwrap()
}

pub(crate) async fn turn(fleet: &Fleet, ledger: &Ledger) {
    let mut log = ledger.log_summary().await.unwrap();
    fleet.turn(&mut log, &mut |_| {}).await.unwrap();
}

/// A run's first generation of a cluster, for looking at.
pub(crate) struct Seen {
    pub(crate) jobs: Api<Job>,
    pub(crate) pods: Api<Pod>,
    pub(crate) run: String,
}

impl Seen {
    pub(crate) fn of(client: &Client, ledger: &Ledger) -> Self {
        let run = ledger.run().to_string();
        let (jobs, pods) =
            (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client.clone(), NAMESPACE));
        Self { jobs, pods, run }
    }

    pub(crate) async fn job(&self, generation: u32) -> Option<Job> {
        self.jobs.get_opt(&format!("{}-{generation}", self.run)).await.unwrap()
    }

    pub(crate) async fn status(&self, generation: u32) -> JobStatus {
        self.job(generation).await.and_then(|job| job.status).unwrap_or_default()
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let selector = ListParams::default().labels(&format!("thresher.dev/run={}", self.run));
        self.pods.list(&selector).await.unwrap().items
    }

    /// How many worker slots have a pod that runs.
    pub(crate) async fn running(&self) -> usize {
        let runs = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        self.pods().await.iter().filter(|pod| runs(pod)).count()
    }

    /// Removes what the test made.
    pub(crate) async fn clear(&self) {
        let parameters = kube::api::DeleteParams::background().grace_period(0);
        let selector = ListParams::default().labels(&format!("thresher.dev/run={}", self.run));
        self.jobs.delete_collection(&parameters, &selector).await.unwrap();
    }
}

/// Looks until it is so. The cluster is given all the time that it takes.
pub(crate) async fn until(mut so: impl AsyncFnMut() -> bool) {
    while !so().await {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

pub(crate) fn ending(status: &JobStatus) -> Option<(String, String)> {
    let conditions = status.conditions.iter().flatten();
    let mut ends = conditions.filter(|condition| {
        condition.status == "True" && (condition.type_ == "Failed" || condition.type_ == "Complete")
    });
    ends.next().map(|condition| (condition.type_.clone(), condition.reason.clone().unwrap_or_default()))
}

pub(crate) async fn pause(ledger: &Ledger, now: bool) {
    let pause = |control: &mut Control| (control.state, control.hold_now) = (RunState::Paused, now);
    ledger.change_control(pause).await.unwrap();
}

pub(crate) async fn apply_cluster_wide(client: &Client, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("thresher-test").force(), &Patch::Apply(object)).await.unwrap();
}

/// What is said to wait, with a reason that has `why` in it. Before, other reasons may have been told.
pub(crate) async fn told_to_wait(fleet: &Fleet, why: &str) -> (String, String) {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut hear = move |event| {
        if let FleetEvent::Waiting(pods) = event {
            tell.send(pods).unwrap();
        }
    };
    let waiting = async {
        loop {
            let found = told.recv().await.unwrap().into_iter().find(|(_, reason)| reason.contains(why));
            if let Some(found) = found {
                return found;
            }
        }
    };
    tokio::select! {
        ended = fleet.follow(&mut hear) => panic!("{ended:?}"),
        waiting = waiting => waiting,
    }
}
