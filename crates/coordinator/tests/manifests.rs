//! Every document in `manifests/` is what its kind says, without a key that the cluster would not know, and keeps to what
//! all pods keep to.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodTemplateSpec, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests").canonicalize().unwrap()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(yaml_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "yaml") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

/// The documents of a file.
fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let parsed = text.split("\n---\n").map(serde_saphyr::from_str);
    parsed.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// All documents that are objects of a cluster, with the files that they are in.
fn objects() -> Vec<(PathBuf, Value)> {
    let files = yaml_files(&manifests()).into_iter();
    let all =
        files.flat_map(|file| documents(&file).into_iter().map(move |document| (file.clone(), document)));
    all.filter(|(_, document)| document["kind"].is_string() && document["kind"] != "Kustomization").collect()
}

/// The first key of `given` that the type does not know.
fn unknown<K: DeserializeOwned + Serialize>(given: &Value) -> Option<String> {
    let typed: K = serde_json::from_value(given.clone()).unwrap_or_else(|error| panic!("{error} in {given}"));
    missing(given, &serde_json::to_value(typed).unwrap(), "")
}

fn missing(given: &Value, known: &Value, at: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let at = format!("{at}.{key}");
            match known.get(key) {
                Some(known) => missing(value, known, &at),
                None => Some(at),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            let pairs = given.iter().zip(known).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (given, known))| missing(given, known, &format!("{at}[{index}]")))
        }
        _ => None,
    }
}

#[test]
fn every_document_is_what_its_kind_says() {
    let objects = objects();
    assert!(objects.len() > 10, "{}", objects.len());
    for (file, object) in objects {
        let kind = object["kind"].as_str().unwrap();
        let stray = match (object["apiVersion"].as_str().unwrap(), kind) {
            ("v1", "Namespace") => unknown::<Namespace>(&object),
            ("v1", "ServiceAccount") => unknown::<ServiceAccount>(&object),
            ("v1", "ConfigMap") => unknown::<ConfigMap>(&object),
            ("rbac.authorization.k8s.io/v1", "Role") => unknown::<Role>(&object),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => unknown::<RoleBinding>(&object),
            ("networking.k8s.io/v1", "NetworkPolicy") => unknown::<NetworkPolicy>(&object),
            ("scheduling.k8s.io/v1", "PriorityClass") => unknown::<PriorityClass>(&object),
            ("batch/v1", "Job") => unknown::<Job>(&object),
            ("batch/v1", "CronJob") => unknown::<CronJob>(&object),
            // Kueue's types are Kueue's.
            ("kueue.x-k8s.io/v1beta2", _) => None,
            other => panic!("{}: unexpected {other:?}", file.display()),
        };
        assert_eq!(stray, None, "{kind} in {}", file.display());
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "thresher", "{}", file.display());
    }
}

#[test]
fn placements_are_fragments_of_pod_templates() {
    for file in yaml_files(&manifests().join("placements")) {
        for fragment in documents(&file) {
            assert_eq!(
                fragment.as_object().unwrap().keys().collect::<Vec<_>>(),
                ["spec"],
                "{}",
                file.display()
            );
            assert_eq!(fragment["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["template"]);
            let stray = unknown::<PodTemplateSpec>(&fragment["spec"]["template"]);
            assert_eq!(stray, None, "{}", file.display());
        }
    }
}

#[test]
fn kustomizations_name_files_that_are_there() {
    let kustomizations: Vec<PathBuf> =
        yaml_files(&manifests()).into_iter().filter(|file| file.ends_with("kustomization.yaml")).collect();
    assert!(kustomizations.len() >= 4, "{kustomizations:?}");
    for file in kustomizations {
        let folder = file.parent().unwrap();
        for kustomization in documents(&file) {
            let named = kustomization["resources"].as_array().cloned().unwrap_or_default();
            let generators = kustomization["configMapGenerator"].as_array().cloned().unwrap_or_default();
            let files =
                generators.iter().flat_map(|generator| generator["files"].as_array().cloned().unwrap());
            for name in named.into_iter().chain(files) {
                let path = folder.join(name.as_str().unwrap());
                assert!(path.exists(), "{} names {}", file.display(), path.display());
            }
        }
    }
}

/// Rights are for named things within one namespace: nothing cluster-wide, no wildcard, no secret.
#[test]
fn rights_are_minimal() {
    for (file, object) in objects() {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("ClusterRole"), "{}", file.display());
        for rule in object["rules"].as_array().into_iter().flatten() {
            for list in ["apiGroups", "resources", "verbs"] {
                let words: Vec<&str> =
                    rule[list].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert!(!words.contains(&"*") && !words.contains(&"secrets"), "{}: {rule}", file.display());
            }
        }
    }
}

/// No manifest holds a value that could be a secret: what is secret is named.
#[test]
fn secrets_are_named_and_never_held() {
    for (file, object) in objects() {
        assert_ne!(object["kind"], "Secret", "{}", file.display());
        each_container(&object, &mut |container| {
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = variable["name"].as_str().unwrap();
                let suspicious =
                    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word));
                assert!(!suspicious || variable["value"].is_null(), "{}: {variable}", file.display());
            }
        });
    }
}

#[test]
fn every_container_has_requests_and_a_bound_of_memory() {
    let mut containers = 0;
    for (file, object) in objects() {
        each_container(&object, &mut |container| {
            containers += 1;
            let resources = &container["resources"];
            assert!(resources["requests"]["cpu"].is_string(), "{}: {container}", file.display());
            assert!(resources["requests"]["memory"].is_string(), "{}: {container}", file.display());
            assert!(resources["limits"]["memory"].is_string(), "{}: {container}", file.display());
        });
    }
    assert!(containers >= 2, "{containers}");
}

/// An engine that tells how it was started, and runs until it is told to end.
struct Engine(Child);

impl Engine {
    /// Starts what the container does, with `storage` in place of the engine's own folder.
    fn start(storage: &Path, programs: &Path, args: &[&str]) -> (Self, String) {
        let fragment = documents(&manifests().join("placements/sidecar.yaml")).remove(0);
        let container = &fragment["spec"]["template"]["spec"]["initContainers"][0];
        let script = container["command"][2].as_str().unwrap();
        let script = script.replace("/var/lib/docker", &storage.display().to_string());
        let variables = container["env"].as_array().unwrap();
        let variables =
            variables.iter().map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap()));
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("sh")
            .args(["-euc", &script, "engine"])
            .args(args)
            .envs(variables)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        (Self(child), said.trim().to_owned())
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Writes a program of a test's own.
fn program(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_engine_with_a_bridge_closes_what_is_denied_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, rules) = (folder.path().join("bin"), folder.path().join("rules"));
    program(&programs, "iptables", &format!("#!/bin/sh\necho \"$@\" >>{}\n", rules.display()));
    program(&programs, "dockerd", &format!("#!/bin/sh\nwc -l <{}\nread wait\n", rules.display()));
    let (engine, said) = Engine::start(&folder.path().join("storage"), &programs, &["--icc=false"]);
    let rules = std::fs::read_to_string(rules).unwrap();
    let denied = rules.lines().filter_map(|rule| {
        rule.strip_prefix("-t mangle -A FORWARD -i docker0 -d ")?.strip_suffix(" -j DROP")
    });
    let denied: Vec<&str> = denied.collect();
    assert!(denied.contains(&"169.254.0.0/16") && denied.contains(&"10.0.0.0/8"), "{rules}");
    assert!(rules.starts_with("-t mangle -A INPUT -i docker0 -j DROP\n"), "{rules}");
    assert_eq!(said, rules.lines().count().to_string(), "all of them, before the engine began");
    engine.end();
}

#[test]
fn engines_that_share_a_folder_of_the_node_work_in_stores_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, programs) = (folder.path().join("storage"), folder.path().join("bin"));
    let program = |name: &str, text: &str| program(&programs, name, text);
    program("dockerd", "#!/bin/sh\necho \"$@\"\nread wait\n");
    let said = |store: u32| format!("--data-root={}/{store} --bridge=none", storage.display());
    let start = || Engine::start(&storage, &programs, &["--bridge=none"]);
    let (first, first_said) = start();
    let (second, second_said) = start();
    assert_eq!((first_said, second_said), (said(0), said(1)));
    first.end();
    // The entry point of docker:dind is there in images of that kind.
    program("dockerd-entrypoint.sh", "#!/bin/sh\nset -eu\n[ \"$1\" = dockerd ]\nexec \"$@\"\n");
    let (third, third_said) = start();
    assert_eq!(third_said, said(0), "the store of the one that ended, with its images");
    second.end();
    third.end();
}

fn each_container(object: &Value, look: &mut dyn FnMut(&Value)) {
    let fields = object.as_object().into_iter().flatten();
    for (key, value) in fields {
        if let (true, Some(list)) = (key == "containers" || key == "initContainers", value.as_array()) {
            list.iter().for_each(&mut *look);
        }
        each_container(value, look);
    }
}
