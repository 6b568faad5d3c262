//! What is seen of a run: in its ledger, and in its cluster.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use thresher_ledger::{Control, Ledger, LogSummary, RunState};
use tokio::sync::Mutex;

use crate::template::{
    GENERATION, GRADED, PLACE, PROGRESS, PROGRESS_AT, QUEUE, ROUND, SLOTS, TEMPLATE, WANTED,
};
use crate::workers::Workers;
use crate::{ClusterError, FleetJob, JobEnd, RunView, fleet::Fleet};

/// Pods that wait are named up to this many.
const MOST_STUCK: u32 = 20;

/// A pod that does not get to run, or a generation that its queue does not admit, and why.
pub(crate) type Stuck = (String, String);

/// Reads what matters of a run. Shards are counted only where it matters how many are left.
pub(crate) async fn run_view(
    ledger: &Ledger,
    control: &Control,
    log: &LogSummary,
    jobs: &[FleetJob],
    wanted_slots: u32,
    workers: &Mutex<Workers>,
) -> Result<RunView, ClusterError> {
    let outline = ledger.plan_outline().await?;
    let (segment, shards, planned) =
        outline.as_ref().map_or((0, 0, 0), |outline| (outline.segment, outline.shards, outline.rollouts));
    let over = segment > 0 && ledger.is_over(segment, control.round).await?;
    let mut workers = workers.lock().await;
    let beats = workers.look(ledger, control.state).await?;
    let graded = log.packed().rollouts + beats.iter().map(|beat| beat.unpacked.graded).sum::<u64>();
    let held = beats.iter().map(|beat| beat.shards.len() as u64).sum::<u64>();
    let there = beats.len();
    let patience = outline.map_or(0, |outline| outline.spec.fleet.take_over_s);
    let at_work = workers.at_work(Duration::from_secs(patience));
    let enough = jobs.iter().any(|job| job.end.is_none() && job.slots >= wanted_slots);
    let shards_left = match over || enough {
        // Enough for what there is.
        true => u64::from(wanted_slots),
        false if control.round > 1 => shards,
        false => shards.saturating_sub(ledger.claimed_shards().await?.len() as u64) + held,
    };
    let state = match control.state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Cancelled { .. } => "cancelled",
    };
    let progress = format!("{state}: {graded}/{planned} graded, {there} workers");
    let (round, hold_now) = (control.round, control.hold_now);
    Ok(RunView { state: control.state, hold_now, at_work, round, over, graded, shards_left, progress })
}

impl Fleet {
    /// The run's generations. A KubeJob of that name that belongs to another run is refused.
    pub(crate) async fn fleet_jobs(&self) -> Result<Vec<FleetJob>, ClusterError> {
        self.kube_jobs().await?.iter().map(|job| self.fleet_job(job)).collect()
    }

    async fn kube_jobs(&self) -> Result<Vec<Job>, ClusterError> {
        let found = self.jobs().list(&ListParams::default().labels(&self.template.selector())).await;
        Ok(found.map_err(|error| ClusterError::of("list the run's KubeJobs", error))?.items)
    }

    fn fleet_job(&self, job: &Job) -> Result<FleetJob, ClusterError> {
        let annotation = |key: &str| job.annotations().get(key).map(String::as_str).unwrap_or_default();
        if annotation(PLACE) != self.place {
            return Err(ClusterError::Template(format!(
                "KubeJob {} belongs to the run at {}, and the one at {} has the same name: give it another",
                job.name_any(),
                annotation(PLACE),
                self.place
            )));
        }
        let status = job.status.clone().unwrap_or_default();
        let spec = job.spec.clone().unwrap_or_default();
        let suspended = spec.suspend.unwrap_or(false);
        let pods = status.active.unwrap_or(0) + status.terminating.unwrap_or(0);
        let slots = annotation(SLOTS).parse().unwrap_or_else(|_| spec.completions.unwrap_or(0).max(0) as u32);
        let shown = annotation(PROGRESS_AT).parse().ok().map(|at| (annotation(PROGRESS).to_owned(), at));
        Ok(FleetJob {
            generation: job.labels().get(GENERATION).and_then(|number| number.parse().ok()).unwrap_or(0),
            template: annotation(TEMPLATE).to_owned(),
            slots,
            wanted: annotation(WANTED).parse().unwrap_or(slots),
            queued: is_queued(job),
            suspended,
            held: suspended && is_held(job),
            pods: pods.max(0) as u32,
            pending: 0,
            ready: status.ready.unwrap_or(0).max(0) as u32,
            round: annotation(ROUND).parse().unwrap_or(1),
            graded_before: annotation(GRADED).parse().unwrap_or(0),
            end: end(&status),
            deleting: job.metadata.deletion_timestamp.is_some(),
            progress: shown,
        })
    }

    /// How many pods of a generation wait for an image or a node.
    pub(crate) async fn pending_pods(&self, generation: u32) -> Result<u32, ClusterError> {
        let selector = format!("{},{GENERATION}={generation}", self.template.selector());
        let selector = ListParams::default().labels(&selector).fields("status.phase=Pending");
        let pods = self.pods().list_metadata(&selector).await;
        let pods = pods.map_err(|error| ClusterError::of("list pods", error))?.items;
        let wanted = |pod: &&PartialObjectMeta<Pod>| pod.metadata.deletion_timestamp.is_none();
        Ok(pods.iter().filter(wanted).count() as u32)
    }

    /// What does not get to run, with the reason.
    pub(crate) async fn stuck(&self) -> Result<Vec<Stuck>, ClusterError> {
        let mut stuck = self.stuck_pods().await?;
        for job in self.kube_jobs().await?.iter().filter(|job| waits_for_queue(job)) {
            stuck.extend(self.not_admitted(job).await?.map(|why| (job.name_any(), why)));
        }
        Ok(stuck)
    }

    /// Worker pods that wait for an image or a node, with the reason.
    async fn stuck_pods(&self) -> Result<Vec<Stuck>, ClusterError> {
        let selector = ListParams::default()
            .labels(&self.template.selector())
            .fields("status.phase=Pending")
            .limit(MOST_STUCK);
        let pods = self.pods().list(&selector).await.map_err(|error| ClusterError::of("list pods", error))?;
        Ok(pods.items.iter().filter_map(|pod| Some((pod.name_any(), stuck(pod)?))).collect())
    }
}

/// Annotation of a generation that an operator's pause holds, which a queue's suspension is told apart by.
pub(crate) const HELD: &str = "thresher.dev/held";

/// Whether a queue admits a KubeJob: one that was asked for, or the namespace's own.
pub(crate) fn is_queued(job: &Job) -> bool {
    job.labels().contains_key(QUEUE)
}

fn is_held(job: &Job) -> bool {
    job.annotations().get(HELD).is_some_and(|word| word == "true")
}

fn waits_for_queue(job: &Job) -> bool {
    let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    is_queued(job) && suspended && !is_held(job) && job.metadata.deletion_timestamp.is_none()
}

fn end(status: &JobStatus) -> Option<JobEnd> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let said = condition.message.clone().unwrap_or_default();
        match (condition.type_.as_str(), condition.reason.as_deref().unwrap_or_default()) {
            ("Complete", _) => Some(JobEnd::Complete),
            ("Failed", "PodFailurePolicy") => Some(JobEnd::Refused(said)),
            ("Failed", reason) => Some(JobEnd::Failed(format!("{reason}: {said}"))),
            _ => None,
        }
    })
}

/// Why a pod does not get to run; `None` if it is only on its way.
fn stuck(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let reason = condition.reason.as_deref().unwrap_or("not scheduled");
        return Some(format!("{reason}: {}", condition.message.as_deref().unwrap_or_default()));
    }
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.filter_map(refused).next()
}

fn refused(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let on_its_way = ["ContainerCreating", "PodInitializing"].contains(&reason);
    let said = waiting.message.as_deref().unwrap_or_default();
    (!on_its_way).then(|| format!("container {}: {reason}: {said}", container.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(condition: serde_json::Value) -> JobStatus {
        serde_json::from_value(json!({ "conditions": [condition] })).unwrap()
    }

    #[test]
    fn ends_are_told_apart() {
        let condition = |kind: &str, reason: &str| {
            status(json!({ "type": kind, "status": "True", "reason": reason, "message": "m" }))
        };
        assert_eq!(end(&JobStatus::default()), None);
        assert_eq!(end(&condition("SuccessCriteriaMet", "CompletionsReached")), None);
        assert_eq!(end(&condition("Complete", "CompletionsReached")), Some(JobEnd::Complete));
        assert_eq!(end(&condition("Failed", "PodFailurePolicy")), Some(JobEnd::Refused("m".into())));
        let failed = Some(JobEnd::Failed("MaxFailedIndexesExceeded: m".into()));
        assert_eq!(end(&condition("Failed", "MaxFailedIndexesExceeded")), failed);
        assert_eq!(end(&status(json!({ "type": "Failed", "status": "False" }))), None);
    }

    #[test]
    fn pods_that_wait_say_why() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(json!({ "status": status })).unwrap()
        };
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
        ]});
        assert_eq!(stuck(&pod(unscheduled)).unwrap(), "Unschedulable: 0/3 nodes");
        let waiting = |reason: &str| {
            let state = json!({"waiting": {"reason": reason, "message": "no such image"}});
            json!({"containerStatuses": [
                {"name": "worker", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0},
            ]})
        };
        let said = stuck(&pod(waiting("ImagePullBackOff"))).unwrap();
        assert_eq!(said, "container worker: ImagePullBackOff: no such image");
        assert_eq!(stuck(&pod(waiting("ContainerCreating"))), None);
    }
}
