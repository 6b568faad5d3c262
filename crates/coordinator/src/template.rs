//! The KubeJob of a run, made from the manifests in `manifests/`.

use serde_json::{Map, Value, json};
use thresher_core::{RunId, Sha256Hex};

use crate::decide::Beginning;
use crate::merge::merge;
use crate::{ClusterError, ClusterSpec, Placement};

const JOB: &str = include_str!("../../../manifests/worker/job.yaml");
const SIDECAR: &str = include_str!("../../../manifests/placements/sidecar.yaml");
const PODS: &str = include_str!("../../../manifests/placements/pods.yaml");
const EMBEDDED: &str = include_str!("../../../manifests/placements/embedded.yaml");

/// Label with the run's name, as far as it can be one.
pub(crate) const RUN: &str = "thresher.dev/run";
/// Label with the number of the generation.
pub(crate) const GENERATION: &str = "thresher.dev/generation";
/// Annotation with the run's place.
pub(crate) const PLACE: &str = "thresher.dev/place";
/// Annotation with the hash of what the generation was made from.
pub(crate) const TEMPLATE: &str = "thresher.dev/template";
/// Annotations with the run's round and graded rollouts when the generation began.
pub(crate) const ROUND: &str = "thresher.dev/round";
pub(crate) const GRADED: &str = "thresher.dev/graded-before";
/// Annotation of pods: whether workers of older generations were there when theirs began (`drain`) or not (`gone`).
const OLDER: &str = "thresher.dev/older-generations";
/// Annotation with the slots that were asked for: a queue may admit fewer.
pub(crate) const SLOTS: &str = "thresher.dev/slots";
/// Annotation with the slots that were wanted, whether or not there were as many shards.
pub(crate) const WANTED: &str = "thresher.dev/wanted-slots";
/// Label with the queue that admits a KubeJob.
pub(crate) const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Annotation with the slots that a queue has to admit at least.
const LEAST: &str = "kueue.x-k8s.io/job-min-parallelism";
/// Annotations with how far the run is, and since when that is known, in seconds since the epoch.
pub(crate) const PROGRESS: &str = "thresher.dev/progress";
pub(crate) const PROGRESS_AT: &str = "thresher.dev/progress-at";

/// Longest name of a generation: the names of its pods, which are hosts, add an index and a suffix.
const LONGEST: usize = 46;

/// What the generations of a run are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    job: Value,
    run: String,
    hash: String,
    max_failed_indexes: Option<u32>,
    /// Slots that a queue has to admit at least.
    least: Option<u32>,
}

impl Template {
    /// Renders the template of the run at `place`, its URL.
    ///
    /// # Errors
    /// [`ClusterError::Template`] where the user's own template makes it no KubeJob.
    pub fn new(run: &RunId, place: &str, spec: &ClusterSpec) -> Result<Self, ClusterError> {
        let mut job = parsed(JOB);
        merge(&mut job, &placement(spec));
        merge(&mut job, &filled(run, place, spec));
        // Laying nothing over it would remove it.
        if !spec.worker_template.is_null() {
            merge(&mut job, &json!({ "spec": { "template": spec.worker_template } }));
        }
        check(&job)?;
        let hash = Sha256Hex::of(job.to_string().as_bytes()).as_str()[..16].to_owned();
        merge(&mut job, &json!({ "metadata": { "annotations": { TEMPLATE: hash } } }));
        let least = spec.min_slots.filter(|_| spec.queue.is_some());
        Ok(Self { job, run: name_of(run), hash, max_failed_indexes: spec.max_failed_indexes, least })
    }

    /// Its hash: another one is another generation.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The label that finds the run's objects.
    pub(crate) fn selector(&self) -> String {
        format!("{RUN}={},app.kubernetes.io/component=worker", self.run)
    }

    /// The label that finds what the run's workers make in the namespace of sandboxes.
    pub(crate) fn sandboxes(&self) -> String {
        format!("{RUN}={},app.kubernetes.io/component=sandbox", self.run)
    }

    /// The KubeJob of a generation.
    pub(crate) fn job(&self, generation: u32, slots: u32, beginning: &Beginning) -> Value {
        let Beginning { wanted, round, graded, older_drain } = beginning;
        let older = if *older_drain { "drain" } else { "gone" };
        let mut job = self.job.clone();
        let label = json!({ GENERATION: generation.to_string() });
        let over = json!({
            "metadata": {
                "name": format!("{}-{generation}", self.run),
                "labels": label,
                "annotations": {
                    WANTED: wanted.to_string(), ROUND: round.to_string(), GRADED: graded.to_string(),
                },
            },
            "spec": { "template": { "metadata": { "labels": label, "annotations": { OLDER: older } } } },
        });
        merge(&mut job, &over);
        merge(&mut job, &self.resized(slots));
        job
    }

    /// What another number of slots changes in a KubeJob, of whichever template.
    pub(crate) fn resized(&self, slots: u32) -> Value {
        // Kueue refuses to admit all of the slots at least, which is what it does anyway.
        let least = self.least.filter(|least| *least < slots);
        let failed = self.max_failed_indexes.unwrap_or_else(|| slots.div_ceil(20));
        // The API server refuses more than there are indexes, also when a queue lowers these.
        let failed = failed.min(least.unwrap_or(slots));
        json!({
            "metadata": {
                "annotations": { SLOTS: slots.to_string(), LEAST: least.map(|least| least.to_string()) },
            },
            "spec": { "completions": slots, "parallelism": slots, "maxFailedIndexes": failed },
        })
    }
}

/// The name of a run's generation: `<run>-<generation>`, with what cannot be part of a name replaced.
pub fn job_name(run: &RunId, generation: u32) -> String {
    format!("{}-{generation}", name_of(run))
}

/// The run's id as a name and a label. One that has to be changed ends with a part of its hash, so that no two are alike.
pub(crate) fn name_of(run: &RunId) -> String {
    let plain: String = run
        .as_str()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    if plain == run.as_str() && plain.len() <= LONGEST {
        return plain.to_owned();
    }
    let hash = &Sha256Hex::of(run.as_str().as_bytes()).as_str()[..8].to_owned();
    let front: String = plain.chars().take(LONGEST - 9).collect();
    let front = front.trim_matches('-');
    format!("{}{hash}", if front.is_empty() { "run-".to_owned() } else { format!("{front}-") })
}

fn parsed(manifest: &str) -> Value {
    serde_saphyr::from_str(manifest).expect("our own manifests are YAML")
}

/// Arguments of an engine whose containers have no network.
const ALONE: [&str; 2] = ["--bridge=none", "--iptables=false"];

fn placement(spec: &ClusterSpec) -> Value {
    let insecure = spec.insecure_registries.iter().map(|host| json!(format!("--insecure-registry={host}")));
    match spec.placement {
        Placement::Sidecar => {
            let mut fragment = parsed(SIDECAR);
            let engine = &mut fragment["spec"]["template"]["spec"]["initContainers"][0];
            engine["image"] = json!(spec.engine_image);
            if let Some(args) = engine["args"].as_array_mut() {
                if spec.engine_network {
                    args.retain(|arg| !ALONE.iter().any(|alone| arg == alone));
                    args.push(json!("--icc=false"));
                }
                args.extend(insecure);
            }
            if let Some(folder) = &spec.engine_storage {
                let on_node = json!({ "path": folder, "type": "DirectoryOrCreate" });
                let volume = json!({ "name": "engine-storage", "emptyDir": null, "hostPath": on_node });
                merge(&mut fragment["spec"]["template"]["spec"], &json!({ "volumes": [volume] }));
            }
            fragment
        }
        Placement::Pods => parsed(PODS),
        Placement::Embedded => parsed(EMBEDDED),
    }
}

/// What differs from run to run.
fn filled(run: &RunId, place: &str, spec: &ClusterSpec) -> Value {
    let mut labels: Map<String, Value> =
        spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.insert(RUN.to_owned(), json!(name_of(run)));
    let mut annotations: Map<String, Value> =
        spec.annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    annotations.insert(PLACE.to_owned(), json!(place));
    let pod_labels = labels.clone();
    if let Some(queue) = &spec.queue {
        labels.insert(QUEUE.to_owned(), json!(queue));
        // A queue may admit fewer slots than asked for: then there are as many indexes.
        annotations.insert("kueue.x-k8s.io/job-completions-equal-parallelism".to_owned(), json!("true"));
    }
    if let Some(priority) = &spec.queue_priority {
        labels.insert("kueue.x-k8s.io/priority-class".to_owned(), json!(priority));
    }
    if let (Some(_), Some(least)) = (&spec.queue, spec.min_slots) {
        annotations.insert(LEAST.to_owned(), json!(least.to_string()));
    }
    let secrets = [Some(&spec.store_secret), spec.model_secret.as_ref()].into_iter().flatten();
    let env_from: Vec<Value> = secrets.map(|name| json!({ "secretRef": { "name": name } })).collect();
    let pull: Vec<Value> = spec.image_pull_secrets.iter().map(|name| json!({ "name": name })).collect();
    json!({
        "metadata": { "namespace": spec.namespace, "labels": labels, "annotations": annotations },
        "spec": {
            "backoffLimitPerIndex": spec.backoff_limit_per_index,
            "ttlSecondsAfterFinished": spec.ttl_s,
            "template": {
                "metadata": { "labels": pod_labels },
                "spec": {
                    "terminationGracePeriodSeconds": spec.drain_s,
                    "imagePullSecrets": pull,
                    "containers": [{
                        "name": "worker",
                        "image": spec.image,
                        "args": arguments(place, spec),
                        "env": [{ "name": "THRESHER_IMAGE", "value": spec.image }],
                        "envFrom": env_from,
                    }],
                },
            },
        },
    })
}

fn arguments(place: &str, spec: &ClusterSpec) -> Vec<String> {
    let (slots, backend) = (spec.sandboxes_per_slot.to_string(), spec.placement.backend());
    let ours = ["worker", "--run", place, "--in-job", "--slots", &slots, "--backend", backend];
    ours.into_iter().map(str::to_owned).chain(spec.worker_args.iter().cloned()).collect()
}

/// Whether the result is a KubeJob, before a cluster is asked.
fn check(job: &Value) -> Result<(), ClusterError> {
    let typed: Result<k8s_openapi::api::batch::v1::Job, _> = serde_json::from_value(job.clone());
    let typed = typed.map_err(|error| {
        ClusterError::Template(format!("worker_template: with it this is no KubeJob: {error}"))
    })?;
    // What the types do not know would be refused by the cluster, or silently dropped by an older one.
    let known = serde_json::to_value(typed).unwrap_or_default();
    match unknown(job, &known, "") {
        None => Ok(()),
        Some(key) => Err(ClusterError::Template(format!("worker_template: unknown key `{key}`"))),
    }
}

/// The first key of `given` that is not in `known`.
fn unknown(given: &Value, known: &Value, at: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            let empty = value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(Map::is_empty)
                || value.is_null();
            match known.get(key) {
                Some(known) => unknown(value, known, &at),
                None => (!empty).then_some(at),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).find_map(|(given, known)| unknown(given, known, at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> ClusterSpec {
        ClusterSpec::parse("cluster.yaml", &format!("image: thresher:1\n{more}")).unwrap()
    }

    fn job(more: &str) -> Value {
        let template = Template::new(&RunId::new("nightly"), "s3://b/runs/nightly", &spec(more)).unwrap();
        template.job(2, 40, &Beginning { wanted: 40, round: 1, graded: 7, older_drain: true })
    }

    fn container<'j>(job: &'j Value, list: &str, name: &str) -> &'j Value {
        let all = job["spec"]["template"]["spec"][list].as_array().unwrap();
        all.iter().find(|container| container["name"] == name).unwrap()
    }

    #[test]
    fn a_generation_is_an_indexed_job_of_slots() {
        let job = job("model_secret: key\nsandboxes_per_slot: 8\n");
        assert_eq!(
            (&job["metadata"]["name"], &job["metadata"]["namespace"]),
            (&json!("nightly-2"), &json!("thresher"))
        );
        assert_eq!(job["metadata"]["labels"][GENERATION], "2");
        assert_eq!(job["spec"]["template"]["metadata"]["annotations"][OLDER], "drain");
        assert_eq!(job["spec"]["template"]["metadata"]["labels"][RUN], "nightly");
        assert_eq!((&job["spec"]["completions"], &job["spec"]["parallelism"]), (&json!(40), &json!(40)));
        assert_eq!(
            (&job["spec"]["maxFailedIndexes"], &job["spec"]["backoffLimitPerIndex"]),
            (&json!(2), &json!(4))
        );
        let worker = container(&job, "containers", "worker");
        let wanted =
            ["worker", "--run", "s3://b/runs/nightly", "--in-job", "--slots", "8", "--backend", "docker"];
        assert_eq!(worker["args"], json!(wanted));
        let secrets = json!([{"secretRef": {"name": "thresher-store"}}, {"secretRef": {"name": "key"}}]);
        assert_eq!(worker["envFrom"], secrets);
        let engine = container(&job, "initContainers", "engine");
        assert!(engine["envFrom"].is_null() && engine["restartPolicy"] == "Always", "{engine}");
        assert_eq!(job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 120);
    }

    #[test]
    fn engines_keep_their_images_on_the_node_where_that_is_said() {
        let volume = |more: &str| {
            let volumes = job(more)["spec"]["template"]["spec"]["volumes"].clone();
            let found = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "engine-storage");
            found.unwrap().clone()
        };
        assert_eq!(volume(""), json!({ "name": "engine-storage", "emptyDir": {} }));
        let on_node = json!({ "path": "/mnt/disks/thresher", "type": "DirectoryOrCreate" });
        let wanted = json!({ "name": "engine-storage", "hostPath": on_node });
        assert_eq!(volume("engine_storage: /mnt/disks/thresher\n"), wanted);
        for wrong in ["disks", "/", "/mnt/../etc"] {
            let text = format!("image: x\nengine_storage: {wrong}\n");
            let error = ClusterSpec::parse("cluster.yaml", &text).unwrap_err().to_string();
            assert!(error.contains("cluster.yaml: engine_storage") && error.contains("absolute"), "{error}");
        }
    }

    #[test]
    fn engines_have_a_bridge_where_that_is_said() {
        let args = |more: &str| {
            let args = container(&job(more), "initContainers", "engine")["args"].clone();
            args.as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let has = |more: &str, arg: &str| args(more).iter().any(|given| given == arg);
        let bridge = "engine_network: true\n";
        for alone in ALONE {
            assert!(has("", alone) && !has(bridge, alone), "{alone}");
        }
        assert!(!has("", "--icc=false") && has(bridge, "--icc=false"));
    }

    #[test]
    fn every_container_has_bounds_in_every_placement() {
        for placement in ["sidecar", "pods", "embedded"] {
            let job = job(&format!("placement: {placement}\n"));
            let pod = &job["spec"]["template"]["spec"];
            let lists = ["containers", "initContainers"].map(|list| pod[list].as_array().cloned());
            for container in lists.into_iter().flatten().flatten() {
                let resources = &container["resources"];
                assert!(resources["requests"]["cpu"].is_string(), "{placement}: {container}");
                assert!(resources["limits"]["memory"].is_string(), "{placement}: {container}");
            }
            assert_eq!(pod["automountServiceAccountToken"], placement == "pods");
        }
    }

    #[test]
    fn the_rules_of_failure_use_documented_codes_in_their_order() {
        let job = job("");
        let rules = job["spec"]["podFailurePolicy"]["rules"].as_array().unwrap().clone();
        assert_eq!(rules[0]["onPodConditions"][0]["type"], "DisruptionTarget");
        let codes: Vec<(String, Vec<i64>)> = rules[1..]
            .iter()
            .map(|rule| {
                let values = rule["onExitCodes"]["values"].as_array().unwrap();
                assert_eq!(rule["onExitCodes"]["containerName"], "worker");
                (
                    rule["action"].as_str().unwrap().to_owned(),
                    values.iter().filter_map(Value::as_i64).collect(),
                )
            })
            .collect();
        use thresher_core::exit_code::{CONFLICT, DATA, DRAINED, OUTAGE, UNAVAILABLE, USAGE};
        let wanted = [
            ("Ignore", vec![DRAINED, OUTAGE]),
            ("FailJob", vec![USAGE, CONFLICT, DATA]),
            ("FailIndex", vec![UNAVAILABLE]),
        ];
        let wanted =
            wanted.map(|(action, codes)| (action.to_owned(), codes.into_iter().map(i64::from).collect()));
        assert_eq!(codes, wanted);
    }

    #[test]
    fn a_users_template_is_laid_over_by_name_and_checked() {
        let job = job(
            "worker_template:\n  spec:\n    nodeSelector: {pool: cpu}\n    runtimeClassName: gvisor\n    containers:\n    - name: \
             worker\n      resources: {limits: {memory: 9Gi}}\n",
        );
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(
            (&pod["nodeSelector"]["pool"], &pod["runtimeClassName"]),
            (&json!("cpu"), &json!("gvisor"))
        );
        let worker = container(&job, "containers", "worker");
        assert_eq!(
            (&worker["resources"]["limits"]["memory"], &worker["image"]),
            (&json!("9Gi"), &json!("thresher:1"))
        );
        for (wrong, said) in
            [("spec: {nodeSelectr: {a: b}}", "nodeSelectr"), ("spec: {tolerations: 5}", "no KubeJob")]
        {
            let spec = spec(&format!("worker_template: {{{wrong}}}\n"));
            let error = Template::new(&RunId::new("r"), "s3://b/r", &spec).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_queue_gets_its_labels() {
        let job = job("queue: team\nqueue_priority: low\nmin_slots: 5\n");
        let (labels, annotations) = (&job["metadata"]["labels"], &job["metadata"]["annotations"]);
        assert_eq!(labels["kueue.x-k8s.io/queue-name"], "team");
        assert_eq!(labels["kueue.x-k8s.io/priority-class"], "low");
        assert_eq!(annotations["kueue.x-k8s.io/job-min-parallelism"], "5");
        assert_eq!(annotations["kueue.x-k8s.io/job-completions-equal-parallelism"], "true");
        assert!(job["spec"]["suspend"].is_null(), "the queue alone suspends");
    }

    #[test]
    fn a_queue_may_admit_fewer_slots_than_there_are_but_not_fewer_than_may_fail() {
        let job = |more: &str| job(&format!("queue: team\nmax_failed_indexes: 9\n{more}"));
        for (more, least, failed) in
            [("", Value::Null, 9), ("min_slots: 5\n", json!("5"), 5), ("min_slots: 40\n", Value::Null, 9)]
        {
            let job = job(more);
            assert_eq!(job["metadata"]["annotations"][LEAST], least, "{more}");
            assert_eq!(job["spec"]["maxFailedIndexes"], failed, "{more}");
        }
    }

    #[test]
    fn only_what_pods_are_made_from_makes_another_generation() {
        let hash =
            |more: &str| Template::new(&RunId::new("r"), "s3://b/r", &spec(more)).unwrap().hash().to_owned();
        assert_eq!(hash("slots: 3\n"), hash("slots: 9\n"));
        assert_ne!(hash(""), hash("sandboxes_per_slot: 5\n"));
    }

    #[test]
    fn names_are_names() {
        let long = "x".repeat(90);
        let names = ["nightly", "Nightly_Run.2", "--", &long].map(|run| name_of(&RunId::new(run)));
        assert_eq!(names[0], "nightly");
        assert!(names[1].starts_with("nightly-run-2-") && names[2].starts_with("run-"), "{names:?}");
        for name in &names {
            let good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            assert!(name.len() <= LONGEST && name.chars().all(good) && !name.ends_with('-'), "{name}");
        }
        assert_ne!(name_of(&RunId::new("a.b")), name_of(&RunId::new("a_b")));
        assert_eq!(job_name(&RunId::new("nightly"), 3), "nightly-3");
    }
}
