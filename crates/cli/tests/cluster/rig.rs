//! The cluster made ready for runs of real tasks: images, secrets, a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use thresher_ledger::Ledger;
use thresher_store::LocalDir;

use crate::common::{Home, Thresher};
use crate::kubernetes::{get, kubectl};
use crate::model::{KEY, KEY_VARIABLE, Model};

/// Rewards by task and sample; `None` is a fault.
pub(crate) type Rewards = BTreeMap<(String, u32), Option<f64>>;

/// Tasks of a run.
pub(crate) enum Tasks {
    /// All of the demo's in R2E-Gym's form.
    Sound,
    /// The same, whose agents ask for the network.
    WithNetwork,
    /// And one whose image is nowhere.
    WithOneThatHasNoImage,
}

/// The cluster and a home for what a test writes.
pub(crate) struct Rig {
    home: Home,
    pub(crate) demo: PathBuf,
    pub(crate) model: Model,
    pub(crate) images: &'static Images,
    state: PathBuf,
    registry: String,
    rows: Vec<Value>,
}

/// Images that the node has.
pub(crate) struct Images {
    pub(crate) thresher: String,
    pub(crate) engine: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs a script of the repository, which must succeed, and returns what it prints.
fn script(args: &[&str]) -> String {
    let output = Command::new(args[0]).args(&args[1..]).current_dir(repository()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Rig {
    /// Makes it ready; `None`, said, where something is missing.
    pub(crate) fn start() -> Option<Self> {
        let Some(state) = variable("THRESHER_CLUSTER_STATE") else {
            println!(
                "skipped: runs on Kubernetes; eval \"$(scripts/cluster up)\" starts a cluster to disturb"
            );
            return None;
        };
        let Some(demo) = variable("THRESHER_DEMO") else {
            println!(
                "skipped: runs on Kubernetes; set THRESHER_DEMO to a folder made by scripts/demo-dataset"
            );
            return None;
        };
        let [host, registry] =
            ["HOST", "REGISTRY"].map(|name| variable(&format!("THRESHER_CLUSTER_{name}")).unwrap());
        let demo = PathBuf::from(demo).canonicalize().expect("the folder of demo tasks exists");
        let text = std::fs::read_to_string(demo.join("r2e.jsonl")).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        static IMAGES: OnceLock<Images> = OnceLock::new();
        let images = IMAGES.get_or_init(|| prepare(&state, &registry, &demo));
        let model = Model::start(host.parse().unwrap(), &rows, &demo.join("replies.jsonl"));
        Some(Self { home: Home::new(), demo, model, images, state: state.into(), registry, rows })
    }

    pub(crate) fn command(&self, verb: &str) -> Thresher<'_> {
        self.home.command(verb).env(KEY_VARIABLE, KEY)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.home.write(name, content)
    }

    /// Stops or starts a part of the cluster.
    pub(crate) fn cluster(&self, args: &[&str]) {
        script(&[&["scripts/cluster", "--state", self.state.to_str().unwrap()], args].concat());
    }

    /// The name of the node that runs pods.
    pub(crate) fn node(&self) -> String {
        get(&["nodes", "-l", "type!=kwok"])[0]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// What is left of a run's sandboxes.
    pub(crate) fn sandboxes(&self, run: &str) -> Vec<Value> {
        let selector = format!("thresher.dev/run={run}");
        get(&["pods,configmaps", "-n", "thresher-sandboxes", "-l", &selector])
    }

    /// Makes what a worker leaves that is killed, and whose slot nobody takes again.
    pub(crate) fn leave_a_slot(&self, run: &str) {
        let labels = json!({
            "app.kubernetes.io/component": "sandbox", "thresher.dev/run": run, "thresher.dev/slot": "99",
            "thresher.dev/generation": "1",
        });
        let metadata =
            json!({ "name": format!("{run}-left"), "namespace": "thresher-sandboxes", "labels": labels });
        apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }));
    }

    /// Writes a job file, with the dataset beside it.
    pub(crate) fn job(&self, name: &str, tasks: &Tasks) -> String {
        let mut rows = self.rows.clone();
        if matches!(tasks, Tasks::WithOneThatHasNoImage) {
            let mut row = rows[0].clone();
            row["repo_name"] = json!("nowhere");
            row["docker_image"] = json!(format!("{}/nowhere:1", self.registry));
            rows.push(row);
        }
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        self.write(&format!("{name}.jsonl"), lines);
        let network = if matches!(tasks, Tasks::WithNetwork) { "full" } else { "none" };
        let image = self.rows[0]["docker_image"].as_str().unwrap();
        let job = json!({
            "name": name,
            "dataset": { "path": format!("{name}.jsonl") },
            "agent": { "name": "r2egym", "max_steps": 40, "max_steps_hard": 50 },
            "model": { "name": "scripted", "base_url": self.model.base_url(), "api_key_env": KEY_VARIABLE },
            "sandbox": {
                "network": network,
                "registry_map": { image.split('/').next().unwrap(): self.registry },
                "insecure_registries": [self.registry],
                "limits": { "memory_mb": 1024, "pids": 512 },
                "pods": { "start_limit_s": 120 },
            },
            // The test's kills are no sign of a rollout that kills its workers.
            "fleet": { "heartbeat_s": 2, "take_over_s": 10, "max_lost_workers": 1000 },
            "samples": 2,
        });
        self.write(&format!("{name}.yaml"), job.to_string())
    }

    /// Writes the configuration of a fleet of three.
    pub(crate) fn cluster_config(&self, placement: &str) -> String {
        let small = json!({ "requests": { "cpu": "20m", "memory": "64Mi", "ephemeral-storage": "64Mi" } });
        let container = |name: &str| json!({ "name": name, "imagePullPolicy": "Never", "resources": small });
        let mut pod = json!({ "containers": [container("worker")] });
        if placement == "sidecar" {
            pod["initContainers"] = json!([container("engine")]);
        }
        let config = json!({
            "image": self.images.thresher,
            "engine_image": self.images.engine,
            "engine_network": true,
            "placement": placement,
            "slots": 3,
            "sandboxes_per_slot": 2,
            "insecure_registries": [self.registry],
            "model_secret": "scripted-model",
            "drain_s": 180,
            "worker_template": { "spec": pod },
        });
        self.write(&format!("{placement}.yaml"), config.to_string())
    }

    /// The folder in which the cluster's store keeps a run.
    pub(crate) fn stored(&self, run: &str) -> PathBuf {
        self.state.join("s3/thresher/runs").join(run)
    }

    /// Rewards of a run in a folder, faulted rollouts too.
    pub(crate) fn rewards(&self, folder: &Path) -> Rewards {
        let store = Arc::new(LocalDir::new(folder));
        let read = async { Ledger::find(store, "").await?.reader().await?.rollouts().await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rollouts = runtime.block_on(read).unwrap();
        let count = rollouts.len();
        let reward = |row: thresher_ledger::RolloutSummary| {
            ((row.instance_id.to_string(), row.sample), row.outcome.reward())
        };
        let rewards: Rewards = rollouts.into_iter().map(reward).collect();
        assert_eq!(rewards.len(), count, "one result for each task and sample");
        rewards
    }
}

/// What all runs need once: accounts and policies, secrets, images of thresher and of an engine, the tasks' images.
fn prepare(state: &str, registry: &str, demo: &Path) -> Images {
    kubectl(&["apply", "--server-side", "-k", repository().join("manifests/base").to_str().unwrap()]);
    let store = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL_S3"];
    let store: Vec<(&str, String)> = store.iter().map(|name| (*name, variable(name).unwrap())).collect();
    secret("thresher-store", &store);
    secret("scripted-model", &[(KEY_VARIABLE, KEY.to_owned())]);
    let program = env!("CARGO_BIN_EXE_thresher");
    let scratch = tempfile::tempdir().unwrap();
    let archive = |name: &str| scratch.path().join(name).display().to_string();
    let (thresher, engine) = ("thresher-test/thresher:1", "thresher-test/engine:1");
    let made =
        script(&["scripts/image", "--program", program, "--tag", thresher, "--archive", &archive("a.tar")]);
    script(&["scripts/cluster", "--state", state, "load", &made]);
    let made = script(&["scripts/engine-image", "--tag", engine, "--archive", &archive("b.tar")]);
    script(&["scripts/cluster", "--state", state, "load", &made]);
    script(&["python3", "scripts/lib/image/oci.py", "mirror", demo.join("oci").to_str().unwrap(), registry]);
    let named = |name: &str| format!("docker.io/{name}");
    Images { thresher: named(thresher), engine: named(engine) }
}

fn secret(name: &str, values: &[(&str, String)]) {
    let data: serde_json::Map<String, Value> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": data,
        "metadata": { "name": name, "namespace": "thresher" },
    });
    apply(&secret);
}

fn apply(object: &Value) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, object.to_string().as_bytes()).unwrap();
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", file.path().to_str().unwrap()]);
}
