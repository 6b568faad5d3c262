//! A run's place in a cluster, and the loop that looks after it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use thresher_ledger::{Ledger, LogSummary, RunState};
use tokio::sync::Mutex;

use crate::decide::{Command, Ending, decide, is_held};
use crate::observe::{Stuck, run_view};
use crate::template::Template;
use crate::workers::Workers;
use crate::{ClusterError, ClusterSpec, View, Wanted};

/// How often the fleet is looked at. A look is a list of the run's few KubeJobs, and now and then one of its pods that wait.
const EVERY: Duration = Duration::from_secs(5);
/// Looks between two at the pods that wait.
const PODS_EVERY: u32 = 4;

/// A run's place in a cluster.
pub struct Fleet {
    pub(crate) client: Client,
    pub(crate) spec: ClusterSpec,
    pub(crate) ledger: Ledger,
    pub(crate) place: String,
    pub(crate) template: Template,
    workers: Mutex<Workers>,
}

/// How a pause that was followed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pausing {
    /// No pod is left, and none is made.
    Held,
    /// Somebody took the word back.
    Resumed,
}

/// What a person who follows a fleet may want to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetEvent {
    /// Something was done.
    Did(Command),
    /// Pods do not get to run, or a queue does not admit a generation: each with the reason. Empty once they do.
    Waiting(Vec<(String, String)>),
    /// The cluster or the store does not answer; it is tried again.
    Away(String),
    /// It answers again.
    Back,
}

impl Fleet {
    /// Finds the way to the cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no kubeconfig or no such context, or the template makes no KubeJob.
    pub async fn new(ledger: Ledger, place: &str, spec: ClusterSpec) -> Result<Self, ClusterError> {
        let template = Template::new(ledger.run(), place, &spec)?;
        let client = connect(spec.context.as_deref()).await?;
        let workers = Mutex::default();
        Ok(Self { client, spec, ledger, place: place.to_owned(), template, workers })
    }

    /// Hash of the template that generations are made from.
    pub fn template(&self) -> &str {
        self.template.hash()
    }

    pub(crate) fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.spec.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.spec.namespace)
    }

    /// Looks once and does what is to be done; `Some` when nothing is left.
    pub async fn turn(
        &self,
        log: &mut LogSummary,
        hear: &mut (dyn FnMut(FleetEvent) + Send),
    ) -> Result<Option<Ending>, ClusterError> {
        self.act(&self.look(log).await?, hear).await
    }

    async fn act(
        &self,
        view: &View,
        hear: &mut (dyn FnMut(FleetEvent) + Send),
    ) -> Result<Option<Ending>, ClusterError> {
        let mut ending = None;
        for command in decide(view) {
            match command {
                Command::End(end) => {
                    if matches!(end, Ending::Over | Ending::Cancelled) {
                        self.clear_sandboxes().await?;
                    }
                    ending = Some(end);
                }
                command => {
                    self.apply(&command).await?;
                    hear(FleetEvent::Did(command));
                }
            }
        }
        Ok(ending)
    }

    /// Looks after the fleet until the run is over, was cancelled, cannot go on, or is another coordinator's. Where cluster or
    /// store are away it waits.
    ///
    /// # Errors
    /// What waiting does not change.
    pub async fn follow(&self, hear: &mut (dyn FnMut(FleetEvent) + Send)) -> Result<Ending, ClusterError> {
        self.follow_until(hear, |_, ending| ending).await
    }

    /// Looks after the fleet of a paused run until its workers have finished what they had begun and its pods are gone, or the
    /// pause is over. Whoever breaks it off leaves the pause as it is, and may follow it again.
    ///
    /// # Errors
    /// What waiting does not change.
    pub async fn follow_pause(
        &self,
        hear: &mut (dyn FnMut(FleetEvent) + Send),
    ) -> Result<Pausing, ClusterError> {
        self.follow_until(hear, |view, _| match view.run.state {
            RunState::Paused => is_held(view).then_some(Pausing::Held),
            _ => Some(Pausing::Resumed),
        })
        .await
    }

    async fn follow_until<T>(
        &self,
        hear: &mut (dyn FnMut(FleetEvent) + Send),
        reached: impl Fn(&View, Option<Ending>) -> Option<T> + Send,
    ) -> Result<T, ClusterError> {
        let mut log = None;
        let (mut away, mut looks, mut waiting) = (false, 0u32, Vec::new());
        loop {
            let turn = self.follow_once(&mut log, hear).await;
            match turn.map(|(view, ending)| reached(&view, ending)) {
                Ok(Some(reached)) => return Ok(reached),
                Ok(None) => {
                    if std::mem::take(&mut away) {
                        hear(FleetEvent::Back);
                    }
                    if looks.is_multiple_of(PODS_EVERY) {
                        self.tell_waiting(&mut waiting, hear).await;
                    }
                    looks = looks.wrapping_add(1);
                }
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut away, true) {
                        hear(FleetEvent::Away(crate::error::chain(&error)));
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn follow_once(
        &self,
        log: &mut Option<LogSummary>,
        hear: &mut (dyn FnMut(FleetEvent) + Send),
    ) -> Result<(View, Option<Ending>), ClusterError> {
        let log = match log {
            Some(log) => {
                log.refresh().await?;
                log
            }
            None => log.insert(self.ledger.log_summary().await?),
        };
        let view = self.look(log).await?;
        let ending = self.act(&view, hear).await?;
        Ok((view, ending))
    }

    async fn tell_waiting(&self, told: &mut Vec<Stuck>, hear: &mut (dyn FnMut(FleetEvent) + Send)) {
        match self.stuck().await {
            Ok(stuck) if stuck != *told => {
                hear(FleetEvent::Waiting(stuck.clone()));
                *told = stuck;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "what waits was not seen"),
        }
    }

    async fn look(&self, log: &LogSummary) -> Result<View, ClusterError> {
        let control = self.ledger.control().await?;
        let slots = control.slots.unwrap_or(self.spec.slots).max(1);
        let mut jobs = self.fleet_jobs().await?;
        let run = run_view(&self.ledger, &control, log, &jobs, slots, &self.workers).await?;
        if run.over || matches!(run.state, RunState::Cancelled { .. }) {
            for job in jobs.iter_mut().filter(|job| job.pods > 0 && job.ready == 0) {
                job.pending = self.pending_pods(job.generation).await?;
            }
        }
        let template = self.template.hash().to_owned();
        let superseded_by = control.template.filter(|wanted| *wanted != template);
        let wanted = Wanted { slots, template, superseded_by };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(View { run, jobs, wanted, now_unix_s: now.as_secs() as i64 })
    }
}

/// Finds the cluster: the context of a kubeconfig, else the kubeconfig's own, else the account of the pod that this runs in.
pub(crate) async fn connect(context: Option<&str>) -> Result<Client, ClusterError> {
    let access = |reason: String| ClusterError::Access { context: context.map(str::to_owned), reason };
    let config = match context {
        Some(context) => {
            let options =
                KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            let file = Kubeconfig::read().map_err(|error| access(crate::error::chain(&error)))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| access(crate::error::chain(&error)))?
        }
        None => Config::infer().await.map_err(|error| access(crate::error::chain(&error)))?,
    };
    Client::try_from(config).map_err(|error| access(crate::error::chain(&error)))
}
