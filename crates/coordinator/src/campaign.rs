//! Campaigns: a job that runs again and again, each time as a run of its own.
//!
//! A campaign is a CronJob whose pod is the run's coordinator. The pod stays until the run is over, so `Forbid` keeps a run
//! from beginning while the last one goes on. The run is named after the pod's KubeJob: a coordinator that is started again
//! finds its own run, and no two nights share one.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::apply::MANAGER;
use crate::fleet::connect;
use crate::merge::merge;
use crate::{ClusterError, ClusterSpec};

const CRON_JOB: &str = include_str!("../../../manifests/campaign/cronjob.yaml");

/// Longest name: the cluster adds a time to it, and generations of the run add their number.
const LONGEST: usize = 34;

/// Bytes of both files together: a ConfigMap holds 1 MiB with everything around them.
const MOST_BYTES: usize = 1_000_000;

/// A job that runs again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Its name: lower-case letters, digits and dashes.
    pub name: String,
    /// When it runs, as cron says it: `0 2 * * *`.
    pub schedule: String,
    /// The time zone of the schedule, such as `Europe/Berlin`; that of the cluster if absent.
    pub time_zone: Option<String>,
    /// Text of the job file.
    pub job: String,
    /// Text of the cluster configuration.
    pub cluster: String,
    /// Further arguments of `thresher submit`.
    pub submit_args: Vec<String>,
}

impl Campaign {
    /// The ConfigMap with the campaign's files, and its CronJob, in the order in which they are applied.
    ///
    /// # Errors
    /// [`ClusterError::Template`] for a name, a schedule or files that no cluster takes.
    pub fn objects(&self, spec: &ClusterSpec) -> Result<[Value; 2], ClusterError> {
        self.check()?;
        Ok([self.files(spec), self.cron_job(spec)])
    }

    /// Makes the campaign, or changes the one of that name: runs that have begun keep what they began with.
    ///
    /// # Errors
    /// Those of [`Campaign::objects`], and what the cluster says against them.
    pub async fn apply(&self, spec: &ClusterSpec) -> Result<(), ClusterError> {
        let [files, cron_job] = self.objects(spec)?;
        let client = connect(spec.context.as_deref()).await?;
        let (name, parameters) = (&self.name, PatchParams::apply(MANAGER).force());
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &spec.namespace);
        let cron_jobs: Api<CronJob> = Api::namespaced(client, &spec.namespace);
        let applied = maps.patch(name, &parameters, &Patch::Apply(&files)).await;
        applied.map_err(|error| ClusterError::of(&format!("apply ConfigMap {name}"), error))?;
        let applied = cron_jobs.patch(name, &parameters, &Patch::Apply(&cron_job)).await;
        applied.map(drop).map_err(|error| ClusterError::of(&format!("apply CronJob {name}"), error))
    }

    fn check(&self) -> Result<(), ClusterError> {
        let Self { name, schedule, time_zone: _, job, cluster, submit_args: _ } = self;
        let wrong = |reason: String| Err(ClusterError::Template(reason));
        if !is_label(name) || name.len() > LONGEST {
            return wrong(format!(
                "`{name}` cannot name a campaign: up to {LONGEST} lower-case letters, digits and dashes, a letter first"
            ));
        }
        if !is_schedule(schedule) {
            return wrong(format!(
                "`{schedule}` is no schedule: minute, hour, day, month and day of the week, as in `0 2 * * *`, or `@daily`"
            ));
        }
        let bytes = job.len() + cluster.len();
        if bytes > MOST_BYTES {
            return wrong(format!(
                "the job file and the cluster configuration have {bytes} bytes, and a ConfigMap holds {MOST_BYTES}; \
                 put lists of tasks into a file beside the dataset"
            ));
        }
        Ok(())
    }

    fn files(&self, spec: &ClusterSpec) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(spec),
            "data": { "job.yaml": self.job, "cluster.yaml": self.cluster },
        })
    }

    fn cron_job(&self, spec: &ClusterSpec) -> Value {
        let mut cron_job: Value = serde_saphyr::from_str(CRON_JOB).expect("our own manifests are YAML");
        let labels = json!({ "metadata": { "labels": all_labels(spec) } });
        let pull: Vec<Value> = spec.image_pull_secrets.iter().map(|name| json!({ "name": name })).collect();
        let pod = json!({
            "imagePullSecrets": pull,
            "containers": [{
                "name": "coordinator",
                "image": spec.image,
                "args": self.arguments(&cron_job),
                "envFrom": [{ "secretRef": { "name": spec.store_secret } }],
            }],
            "volumes": [{ "name": "files", "configMap": { "name": self.name } }],
        });
        let job = json!({ "spec": { "ttlSecondsAfterFinished": spec.ttl_s, "template": { "spec": pod } } });
        let over = json!({
            "metadata": self.metadata(spec),
            "spec": { "schedule": self.schedule, "timeZone": self.time_zone, "jobTemplate": job },
        });
        merge(&mut cron_job, &over);
        merge(&mut cron_job["spec"]["jobTemplate"], &labels);
        merge(&mut cron_job["spec"]["jobTemplate"]["spec"]["template"], &labels);
        cron_job
    }

    /// Those of the manifest, and the campaign's own.
    fn arguments(&self, cron_job: &Value) -> Vec<Value> {
        let container = &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
        let ours = container["args"].as_array().cloned().unwrap_or_default();
        ours.into_iter().chain(self.submit_args.iter().map(|argument| json!(argument))).collect()
    }

    fn metadata(&self, spec: &ClusterSpec) -> Value {
        json!({
            "name": self.name,
            "namespace": spec.namespace,
            "labels": all_labels(spec),
            "annotations": spec.annotations,
        })
    }
}

fn all_labels(spec: &ClusterSpec) -> BTreeMap<&str, &str> {
    let own = [("app.kubernetes.io/name", "thresher"), ("app.kubernetes.io/component", "coordinator")];
    let users = spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    users.chain(own).collect()
}

/// Whether a cluster takes the name for objects and for hosts.
fn is_label(name: &str) -> bool {
    let good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(good)
        && !name.ends_with('-')
}

/// Whether it looks like a schedule; the cluster reads it more closely. A time zone has a key of its own.
fn is_schedule(schedule: &str) -> bool {
    let fields = schedule.split_ascii_whitespace().count();
    match schedule.starts_with('@') {
        true => fields == 1,
        false => fields == 5 && !schedule.contains('='),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign() -> Campaign {
        Campaign {
            name: "nightly".to_owned(),
            schedule: "0 2 * * *".to_owned(),
            time_zone: Some("Europe/Berlin".to_owned()),
            job: "name: x\n".to_owned(),
            cluster: "image: thresher:1\n".to_owned(),
            submit_args: vec!["--out=s3://b/runs".to_owned()],
        }
    }

    fn spec() -> ClusterSpec {
        let text = "image: thresher:1\nmodel_secret: key\nimage_pull_secrets: [pull]\nlabels: {team: data}\n";
        ClusterSpec::parse("cluster.yaml", text).unwrap()
    }

    #[test]
    fn a_campaign_is_a_cron_job_whose_pod_is_the_coordinator() {
        let [files, cron_job] = campaign().objects(&spec()).unwrap();
        let files: ConfigMap = serde_json::from_value(files).unwrap();
        assert_eq!(files.metadata.name.as_deref(), Some("nightly"));
        assert_eq!(files.data.unwrap()["job.yaml"], "name: x\n");
        let cron_job: CronJob = serde_json::from_value(cron_job).unwrap();
        assert_eq!(cron_job.metadata.namespace.as_deref(), Some("thresher"));
        assert_eq!(cron_job.metadata.labels.unwrap()["team"], "data");
        let spec = cron_job.spec.unwrap();
        assert_eq!(
            (spec.concurrency_policy.as_deref(), spec.schedule.as_str()),
            (Some("Forbid"), "0 2 * * *")
        );
        assert_eq!(spec.time_zone.as_deref(), Some("Europe/Berlin"));
        let template = spec.job_template.spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().labels.unwrap()["team"], "data");
        let pod = template.spec.unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some("thresher-coordinator"));
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
        let volume = pod.volumes.unwrap().into_iter().find(|volume| volume.name == "files").unwrap();
        assert_eq!(volume.config_map.unwrap().name, "nightly");
    }

    #[test]
    fn the_coordinator_gets_the_store_and_never_the_models_key() {
        let [_, cron_job] = campaign().objects(&spec()).unwrap();
        let pod = &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let [coordinator] = &pod["containers"].as_array().unwrap()[..] else { panic!("{pod}") };
        assert_eq!(coordinator["image"], "thresher:1");
        assert_eq!(coordinator["envFrom"], json!([{ "secretRef": { "name": "thresher-store" } }]));
        let args: Vec<&str> =
            coordinator["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let wanted = [
            "submit",
            "/etc/thresher/job.yaml",
            "--cluster-config=/etc/thresher/cluster.yaml",
            "--wait",
            "--run-name-from-job",
            "--out=s3://b/runs",
        ];
        assert_eq!(args, wanted);
    }

    #[test]
    fn exit_codes_of_the_failure_policy_are_those_that_a_repetition_would_end_with() {
        use thresher_core::exit_code::{
            CANCELLED, CONFLICT, DATA, DRAINED, FAULTED, OUTAGE, REGRESSION, USAGE,
        };
        let [_, cron_job] = campaign().objects(&spec()).unwrap();
        let rules = &cron_job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"];
        let codes = |rule: usize| rules[rule]["onExitCodes"]["values"].clone();
        assert_eq!(rules[0]["onPodConditions"][0]["type"], "DisruptionTarget");
        assert_eq!((&rules[1]["action"], codes(1)), (&json!("Ignore"), json!([DRAINED, OUTAGE])));
        let ends = json!([USAGE, FAULTED, CONFLICT, DATA, CANCELLED, REGRESSION]);
        assert_eq!((&rules[2]["action"], codes(2)), (&json!("FailJob"), ends));
    }

    #[test]
    fn what_no_cluster_takes_is_refused_before_it_is_asked() {
        let long = "n".repeat(LONGEST + 1);
        let cases: Vec<(Campaign, &str)> = vec![
            (Campaign { name: "Nightly".to_owned(), ..campaign() }, "cannot name a campaign"),
            (Campaign { name: "2nd".to_owned(), ..campaign() }, "cannot name a campaign"),
            (Campaign { name: "n-".to_owned(), ..campaign() }, "cannot name a campaign"),
            (Campaign { name: long, ..campaign() }, "cannot name a campaign"),
            (Campaign { schedule: "0 2 * *".to_owned(), ..campaign() }, "no schedule"),
            (Campaign { schedule: "TZ=UTC 2 * * *".to_owned(), ..campaign() }, "no schedule"),
            (Campaign { job: "x".repeat(MOST_BYTES), ..campaign() }, "a ConfigMap holds 1000000"),
        ];
        for (campaign, wanted) in cases {
            let error = campaign.objects(&spec()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let daily = Campaign { schedule: "@daily".to_owned(), time_zone: None, ..campaign() };
        assert!(daily.objects(&spec()).unwrap()[1]["spec"]["timeZone"].is_null());
    }
}
