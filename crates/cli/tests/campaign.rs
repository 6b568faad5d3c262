//! A campaign on a real cluster: its CronJob's pod plans, follows and compares. Needs KUBECONFIG of a cluster of
//! `scripts/cluster`, into which an image with the program is put.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what is skipped is printed for scripts/test to collect"
)]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::row::{RIGHT, Row, job};
use common::{Home, eventually, json};
use serde_json::{Value, json};

const NAMESPACE: &str = "thresher";
const IMAGE: &str = "docker.io/thresher-test/campaign:1";
/// Enough that none of them solved, after all of them were, is more than chance explains.
const TASKS: usize = 8;

/// Makes an image of the program and of what the tasks' sandboxes use of their machine, all of it below `/usr`.
const MAKE_IMAGE: &str = r#"
    set -eu
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    mkdir -p "$root/usr/bin" "$root/tmp" "$root/etc" "$root/var/cache/thresher" "$root/proc" "$root/dev" "$root/sys"
    for folder in bin sbin lib lib64; do mkdir -p "$root/usr/$folder"; ln -s "usr/$folder" "$root/$folder"; done
    strip --strip-debug -o "$root/usr/bin/thresher" "$1"
    for tool in bash sh cat ls mkdir rm cp mv ln find grep sed env id head tail sort wc chmod sleep; do
      cp -L "$(command -v "$tool" || echo /usr/bin/$tool)" "$root/usr/bin/$tool"
    done
    for library in $(ldd "$root"/usr/bin/* | grep -o '/[^ :]*\.so[^ ]*' | sort -u); do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'nonroot:x:65532:65532:nonroot:/:' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' >"$root/etc/group"
    chmod 1777 "$root/tmp" "$root/var/cache/thresher"
    archive=$(mktemp)
    python3 scripts/lib/image/oci.py archive --root "$root" --tag "$2" --entrypoint /usr/bin/thresher --user 65532:65532 \
      --env PATH=/usr/bin --env HOME=/tmp "$archive"
    scripts/cluster --state "$3" load "$archive"
    rm "$archive"
"#;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Puts the image into the cluster and makes what all runs need; `None` if there is no cluster that can be used.
fn rig() -> Option<()> {
    let state = std::env::var("KUBECONFIG").ok().and_then(|_| std::env::var("THRESHER_CLUSTER_STATE").ok());
    let Some(state) = state else {
        println!("skipped: no cluster of scripts/cluster; eval \"$(scripts/cluster up)\" starts one");
        return None;
    };
    let program = env!("CARGO_BIN_EXE_thresher");
    let made = Command::new("sh")
        .args(["-c", MAKE_IMAGE, "sh", program, IMAGE, &state])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Other tests may have applied the same in their own way.
    let base = repository().join("manifests/base");
    let applied = Command::new("kubectl")
        .args(["apply", "--server-side", "--force-conflicts", "-k"])
        .arg(base)
        .output()
        .unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    Some(())
}

/// What kubectl prints.
fn kubectl(args: &[&str]) -> String {
    let output = Command::new("kubectl").args(["-n", NAMESPACE]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn get(args: &[&str]) -> Value {
    json(&kubectl(&[&["get", "-o", "json"], args].concat()))
}

fn apply(object: &Value) {
    let mut child = Command::new("kubectl")
        .args(["-n", NAMESPACE, "apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{object}");
}

/// What a scripted model says tonight, for worker pods to mount.
fn apply_replies(home: &Home, name: &str) {
    let replies = std::fs::read_to_string(home.path("job.replies.jsonl")).unwrap();
    let metadata = json!({ "name": format!("{name}-replies") });
    let data = json!({ "replies.jsonl": replies });
    apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data }));
}

/// The bucket's address and credentials, as this process has them.
fn apply_secret(name: &str) {
    let aws = std::env::vars().filter(|(variable, _)| variable.starts_with("AWS_"));
    let data: serde_json::Map<String, Value> = aws.map(|(name, value)| (name, value.into())).collect();
    let metadata = json!({ "name": format!("{name}-store") });
    apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data }));
}

/// Writes tasks that `commands` are the model's answer to, and the job over them.
fn write_job(home: &Home, name: &str, commands: &[String]) -> String {
    let row =
        |at: usize| commands.iter().fold(Row::new(&format!("answer__{at}")), |row, text| row.bash(text));
    let rows: Vec<Row> = (0..TASKS).map(row).collect();
    let extra = format!(
        "name: {name}\nmodel: {{ name: scripted, replay: /etc/replies/replies.jsonl }}\nsandbox: {{ backend: embedded }}\n\
         fleet: {{ heartbeat_s: 1, take_over_s: 4 }}\n"
    );
    job(home, "job", &rows, &extra)
}

fn write_cluster(home: &Home, name: &str) -> String {
    let request = json!({ "requests": { "cpu": "50m", "memory": "64Mi" } });
    let worker = json!({
        "name": "worker",
        "resources": request,
        "volumeMounts": [{ "name": "replies", "mountPath": "/etc/replies" }],
    });
    let replies = json!({ "name": "replies", "configMap": { "name": format!("{name}-replies") } });
    let cluster = json!({
        "image": IMAGE,
        "context": Value::Null,
        "placement": "embedded",
        "slots": 1,
        "store_secret": format!("{name}-store"),
        "worker_template": { "spec": { "containers": [worker], "volumes": [replies] } },
    });
    home.write("cluster.yaml", cluster.to_string())
}

/// Begins a night by hand.
fn begin(name: &str, night: &str) {
    kubectl(&["create", "job", &format!("--from=cronjob/{name}"), night]);
}

fn pods(night: &str) -> Vec<Value> {
    get(&["pods", "-l", &format!("batch.kubernetes.io/job-name={night}")])["items"]
        .as_array()
        .unwrap()
        .clone()
}

/// How a night ended: the condition of its KubeJob, the exit code of its last pod, and what that printed.
fn ended(night: &str) -> (String, i64, String) {
    let condition = eventually("the night ends", || {
        let status = get(&["job", night])["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ends = ["Complete", "Failed"];
        let end = conditions.into_iter().find(|condition| {
            condition["status"] == "True" && ends.iter().any(|end| condition["type"] == *end)
        });
        end.map(|condition| condition["type"].as_str().unwrap().to_owned())
    });
    let code =
        |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
    let pods = pods(night);
    let last = pods.iter().max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str()).unwrap();
    let log = kubectl(&["logs", last["metadata"]["name"].as_str().unwrap()]);
    (condition, code(last).unwrap(), log)
}

/// Evicts a night's coordinator as soon as it runs, and gives its pod's name.
fn evict_coordinator(night: &str) -> String {
    let name = eventually("the coordinator runs", || {
        let running = pods(night).into_iter().find(|pod| pod["status"]["phase"] == "Running")?;
        Some(running["metadata"]["name"].as_str().unwrap().to_owned())
    });
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name, "namespace": NAMESPACE },
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction");
    let mut child = Command::new("kubectl")
        .args(["create", "--raw", &path, "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(eviction.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    name
}

/// Removes what the test made.
struct Clear(String);

impl Drop for Clear {
    fn drop(&mut self) {
        let name = &self.0;
        let objects = [
            format!("cronjob/{name}"),
            format!("job/{name}-z"),
            format!("job/{name}-a"),
            format!("job/{name}-z-1"),
            format!("job/{name}-a-1"),
            format!("configmap/{name}"),
            format!("configmap/{name}-replies"),
            format!("secret/{name}-store"),
        ];
        let deleted = Command::new("kubectl")
            .args(["-n", NAMESPACE, "delete", "--ignore-not-found", "--wait=false"])
            .args(objects)
            .stdout(Stdio::null())
            .status();
        assert!(deleted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_campaign_runs_by_itself_and_ends_with_a_code_where_a_night_is_worse() {
    let Some(()) = rig() else { return };
    let home = Home::new();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = format!("campaign-{}", began.as_millis() % 100_000_000);
    let _clear = Clear(name.clone());
    let folder = format!("s3://thresher/campaigns/{name}");
    let cluster = write_cluster(&home, &name);
    let job = write_job(&home, &name, &[format!("echo '{RIGHT}' > answer.sh")]);
    apply_replies(&home, &name);
    apply_secret(&name);
    let args =
        ["--schedule", "0 2 1 12 *", "--fail-on-regression", "--out", &folder, "--cluster-config", &cluster];
    let made = home.command("submit").args([&job]).args(args).expect(0);
    assert!(made.stdout.contains(&format!("campaign {name}")), "{}", made.stdout);
    let cron_job = get(&["cronjob", &name])["spec"].clone();
    assert_eq!(cron_job["concurrencyPolicy"], "Forbid");
    // The pods have what they need in the bucket.
    std::fs::remove_file(home.path("job.jsonl")).unwrap();

    // The first night's name comes after the second's: only the time tells which was before.
    let (first, second) = (format!("{name}-z"), format!("{name}-a"));
    begin(&name, &first);
    let evicted = evict_coordinator(&first);
    let (end, code, log) = ended(&first);
    assert_eq!((end.as_str(), code), ("Complete", 0), "{log}");
    assert!(log.contains("no finished run of this job before this one"), "{log}");
    let names: Vec<Value> = pods(&first).iter().map(|pod| pod["metadata"]["name"].clone()).collect();
    assert!(names.iter().any(|name| *name != json!(evicted)), "it was started again, as {names:?}");

    write_job(&home, &name, &[]);
    apply_replies(&home, &name);
    begin(&name, &second);
    let (end, code, log) = ended(&second);
    assert_eq!((end.as_str(), code), ("Failed", 10), "{log}");
    assert!(log.contains(&format!("{folder}/{first}")) && log.contains("-100.0 points"), "{log}");
    assert_eq!(pods(&second).len(), 1, "a night that was worse is not tried again");

    let runs = home.command("runs").args([&folder, "--json"]).expect(0).json();
    let states: Vec<_> = runs.as_array().unwrap().iter().map(|run| &run["status"]["state"]).collect();
    assert_eq!(states, ["sealed", "sealed"], "{runs}");
}
