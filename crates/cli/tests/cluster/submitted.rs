//! A run that was given to the cluster, and its coordinator.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::common::Running;
use crate::kubernetes::{Worker, eventually, get};
use crate::rig::{Rewards, Rig, Tasks};

/// Rollouts that have their results before a run is disturbed.
const BUSY: u64 = 2;

pub(crate) struct Submitted<'r> {
    rig: &'r Rig,
    pub(crate) name: String,
    job: String,
    config: String,
    coordinator: Option<Running>,
}

impl<'r> Submitted<'r> {
    /// Submits a run and has a coordinator follow it.
    pub(crate) fn start(rig: &'r Rig, placement: &str, tasks: &Tasks) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let name = format!("e2e-{placement}-{}", now % 1_000_000_000);
        let (job, config) = (rig.job(&name, tasks), rig.cluster_config(placement));
        let mut run = Self { rig, name, job, config, coordinator: None };
        run.follow();
        run
    }

    fn url(&self) -> String {
        format!("s3://thresher/runs/{}", self.name)
    }

    /// The same command as before: a coordinator that was killed is begun again by it.
    pub(crate) fn follow(&mut self) {
        let submit = self.rig.command("submit").args([self.job.as_str(), "--wait"]);
        let submit = submit.args(["--cluster-config", self.config.as_str(), "-o", &self.url()]);
        self.coordinator = Some(submit.spawn());
    }

    /// Kills the coordinator with SIGKILL.
    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator.take().unwrap().kill();
    }

    /// Waits until the coordinator ends, which must be with this exit code.
    pub(crate) fn end(&mut self, code: i32) {
        self.coordinator.take().unwrap().expect(code);
    }

    /// Waits until the coordinator has said this on standard error.
    pub(crate) fn says(&self, what: &str) {
        let coordinator = self.coordinator.as_ref().unwrap();
        eventually(what, || coordinator.stderr().contains(what).then_some(()));
    }

    /// Gives a command for the run on its cluster, which must succeed, and returns what it prints.
    pub(crate) fn command(&self, verb: &str, args: &[&str]) -> String {
        let command = self.rig.command(verb).args([self.url().as_str()]).args(args);
        command.args(["--cluster-config", self.config.as_str()]).expect(0).stdout
    }

    /// What `thresher watch` prints of the run, which is over.
    pub(crate) fn watched(&self) -> String {
        self.rig.command("watch").args([self.url()]).expect(0).stdout
    }

    pub(crate) fn scale(&self, slots: u32) {
        self.command("scale", &[&slots.to_string()]);
    }

    /// Waits until all three slots have workers at work, and some rollouts have ended.
    pub(crate) fn wait_until_busy(&self) {
        eventually("the fleet is busy", || {
            let status = self.rig.command("status").args([self.url().as_str(), "--json"]).output();
            let status: Value = serde_json::from_str(&status.stdout).ok()?;
            let is_busy = status["workers"].as_array()?.len() >= 3 && status["graded"].as_u64()? >= BUSY;
            (is_busy && self.running() == 3).then_some(())
        });
    }

    /// The run's worker pods, those that ended too, by their slots and names.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let selector = format!("thresher.dev/run={},app.kubernetes.io/component=worker", self.name);
        let pods = get(&["pods", "-n", "thresher", "-l", &selector]);
        let mut workers: Vec<Worker> = pods.iter().map(Worker::of).collect();
        workers.sort_by(|one, other| (one.slot, &one.name).cmp(&(other.slot, &other.name)));
        workers
    }

    pub(crate) fn running(&self) -> usize {
        self.workers().iter().filter(|worker| worker.runs).count()
    }

    /// The pod that runs in a slot.
    pub(crate) fn worker(&self, slot: u32) -> Worker {
        let find = || self.workers().into_iter().find(|worker| worker.slot == slot && worker.runs);
        eventually("the slot has a pod", find)
    }

    /// The pod that came after one.
    pub(crate) fn successor(&self, slot: u32, before: &Worker) -> Worker {
        let is_it = |worker: &Worker| worker.slot == slot && worker.runs && worker.name != before.name;
        eventually("the slot has another pod", || self.workers().into_iter().find(is_it))
    }

    fn kube_job(&self) -> Value {
        get(&["job", &format!("{}-1", self.name), "-n", "thresher"]).remove(0)
    }

    /// Pods that failed and count.
    pub(crate) fn failures(&self) -> u64 {
        self.kube_job()["status"]["failed"].as_u64().unwrap_or(0)
    }

    /// Slots that were given up.
    pub(crate) fn failed_indexes(&self) -> String {
        self.kube_job()["status"]["failedIndexes"].as_str().unwrap_or_default().to_owned()
    }

    /// Rewards of the run, which is over.
    pub(crate) fn rewards(&self) -> Rewards {
        self.rig.rewards(&self.rig.stored(&self.name))
    }
}

impl Drop for Submitted<'_> {
    /// Takes the fleet away, also where the test failed.
    fn drop(&mut self) {
        self.coordinator = None;
        let selector = format!("thresher.dev/run={}", self.name);
        let delete = ["delete", "jobs", "-n", "thresher", "-l", &selector, "--wait=false"];
        drop(std::process::Command::new("kubectl").args(delete).output());
    }
}
