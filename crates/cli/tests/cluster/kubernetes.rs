//! What is asked of the cluster, and done to it.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::asking_every;
use crate::rig::Rig;

/// Asks the cluster again until there is an answer.
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    asking_every(Duration::from_millis(500), what, ask)
}

/// Runs kubectl, which must succeed, and returns what it prints.
pub(crate) fn kubectl(args: &[&str]) -> String {
    let output = Command::new("kubectl").arg("--request-timeout=60s").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The objects that `kubectl get` finds.
pub(crate) fn get(args: &[&str]) -> Vec<Value> {
    let list: Value = serde_json::from_str(&kubectl(&[&["get", "-o", "json"], args].concat())).unwrap();
    list["items"].as_array().cloned().unwrap_or_else(|| vec![list])
}

/// A worker's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) slot: u32,
    /// It runs, and nobody wants it to end.
    pub(crate) runs: bool,
    /// Failures of its slot that count, and those that do not.
    pub(crate) counted: u32,
    pub(crate) ignored: u32,
}

impl Worker {
    pub(crate) fn of(pod: &Value) -> Self {
        let metadata = &pod["metadata"];
        let annotation = |name: &str| {
            let value = metadata["annotations"][format!("batch.kubernetes.io/{name}")].as_str();
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Self {
            name: metadata["name"].as_str().unwrap().to_owned(),
            uid: metadata["uid"].as_str().unwrap().to_owned(),
            slot: annotation("job-completion-index"),
            runs: pod["status"]["phase"] == "Running" && metadata["deletionTimestamp"].is_null(),
            counted: annotation("job-index-failure-count"),
            ignored: annotation("job-index-ignored-failure-count"),
        }
    }
}

/// Evicts a pod as whoever drains its node does.
pub(crate) fn evict(rig: &Rig, pod: &str) {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": pod, "namespace": "thresher" },
    });
    let file = rig.write("eviction.json", eviction.to_string());
    let path = format!("/api/v1/namespaces/thresher/pods/{pod}/eviction");
    kubectl(&["create", "--raw", &path, "-f", &file]);
}

/// `kill -9` of a pod's worker: of the process itself, which this machine runs.
pub(crate) fn kill_worker(worker: &Worker) {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let read = |pid: &i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let is_it = |pid: &i32| {
        read(pid, "cgroup").contains(&worker.uid) && read(pid, "cmdline").contains("thresher worker --run")
    };
    let found: Vec<Pid> = numbers.filter(is_it).filter_map(Pid::from_raw).collect();
    assert!(!found.is_empty(), "the worker of {} is a process of this machine", worker.name);
    for pid in found {
        kill_process(pid, Signal::KILL).unwrap();
    }
}
