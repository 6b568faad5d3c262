//! `thresher doctor`: what this machine can run, and how to fix what it cannot.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use thresher_core::exit_code;
use thresher_core::run_spec::ModelSpec;
use thresher_rollout::llm::{self, ChatRequest, LlmError, Message};
use thresher_sandbox::docker::{Docker, DockerOptions};
use thresher_sandbox::{Backend as _, embedded};
use tokio_util::sync::CancellationToken;

use super::{print, print_json};
use crate::args::DoctorArgs;
use crate::backend::docker_host;
use crate::exit::Failure;
use crate::job::Job;
use crate::session::api_key;
use crate::{run_dir, table};

/// Free space below which runs are likely to fail.
const LOW_DISK: u64 = 5 << 30;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    finding: String,
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// Checks the machine.
pub(super) async fn run(args: DoctorArgs) -> Result<i32, Failure> {
    let cache = run_dir::cache(args.cache.as_deref());
    let mut checks = namespaces(&cache).await;
    checks.push(docker(&cache).await);
    checks.push(disk(&cache));
    checks.push(model(&args).await?);
    if args.json {
        print_json(&checks)?
    } else {
        print(&text(&checks))?
    }
    // A machine is fit if some backend works and nothing that was asked for failed.
    let works = |name: &str| checks.iter().any(|check| check.name == name && check.state == State::Ok);
    let a_backend = works("embedded, as root") || works("embedded, as user") || works("docker");
    let endpoint = checks.iter().all(|check| check.name != "model endpoint" || check.state != State::Failed);
    Ok(if a_backend && endpoint { exit_code::OK } else { exit_code::UNAVAILABLE })
}

async fn namespaces(cache: &Path) -> Vec<Check> {
    let probed = embedded::probe(&cache.join("embedded")).await;
    let report = match probed {
        Ok(report) => report,
        Err(error) => {
            let remedy = "give a folder that can be written and may hold programs with --cache".to_owned();
            return vec![failed("embedded", error.to_string(), Some(remedy))];
        }
    };
    let variant = |name, result: Result<(), String>| match result {
        Ok(()) => ok(name, "namespaces, overlay mounts and pivot_root work".into()),
        Err(cause) => failed(name, cause, None),
    };
    let images = match report.has_images() {
        Ok(()) => ok("embedded, images", "layers can be unpacked and mounted".into()),
        // The cause comes with its remedy. Tasks that use the machine's own programs need none.
        Err(cause) => Check { state: State::Warning, ..failed("embedded, images", cause, None) },
    };
    let proc = report.proc_advice().map(|advice| {
        let finding = "sandboxes see the command lines of all processes here, other sandboxes' among them";
        warning("embedded, /proc", finding.into(), advice)
    });
    let checks = [
        variant("embedded, as root", report.root),
        variant("embedded, as user", report.user),
        images,
        match report.cgroups {
            Ok(()) => ok("cgroups", "limits of memory, processors and processes can be enforced".into()),
            Err(cause) => warning(
                "cgroups",
                cause,
                "limits of embedded sandboxes are not enforced; use Docker for that",
            ),
        },
    ];
    checks.into_iter().chain(proc).collect()
}

async fn docker(cache: &Path) -> Check {
    let options = DockerOptions {
        host: docker_host(),
        index: cache.join("docker"),
        call_deadline: Duration::from_secs(10),
        ..DockerOptions::new(cache.join("guest"))
    };
    let remedy =
        || Some("start the daemon (`sudo systemctl start docker`), or point DOCKER_HOST at one".to_owned());
    match Docker::connect(options).await {
        Err(error) => failed("docker", error.to_string(), remedy()),
        Ok(docker) => match docker.evidence().await {
            Some(error) => failed("docker", error.to_string(), remedy()),
            None => ok("docker", "the daemon answers, and its disk has space".into()),
        },
    }
}

fn disk(cache: &Path) -> Check {
    match free_bytes(cache) {
        Ok(free) if free < LOW_DISK => warning(
            "disk",
            format!("{} MiB free at {}", table::count(free >> 20), cache.display()),
            "images of real datasets take 2 GB each; free space, or put the cache elsewhere with --cache",
        ),
        Ok(free) => ok("disk", format!("{} MiB free at {}", table::count(free >> 20), cache.display())),
        Err(error) => failed("disk", format!("{}: {error}", cache.display()), None),
    }
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    std::fs::create_dir_all(folder)?;
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail * space.f_frsize)
}

/// Asks the endpoint for one token.
async fn model(args: &DoctorArgs) -> Result<Check, Failure> {
    const NAME: &str = "model endpoint";
    let spec = match (&args.job, &args.base_url) {
        (Some(job), None) => Job::read(job)?.spec.model,
        (_, Some(url)) => Some(serde_json::from_value(serde_json::json!({
            "name": "doctor", "base_url": url, "api_key_env": args.api_key_env,
        }))?),
        (None, None) => None,
    };
    let Some(spec) = spec.filter(|spec: &ModelSpec| spec.replay.is_none()) else {
        let finding = "no endpoint to check; give a job file or --base-url".to_owned();
        return Ok(Check { name: NAME, state: State::Skipped, finding, remedy: None });
    };
    let url = spec.base_url.clone().unwrap_or_default();
    let key = api_key(spec.api_key_env.as_deref())?;
    let mut spec = spec;
    (spec.client.max_tries, spec.sampling.max_output_tokens) = (1, Some(1));
    let client = match llm::connect(&spec, key, None) {
        Ok(client) => client,
        Err(error) => return Ok(failed(NAME, error.to_string(), None)),
    };
    let messages = [Message::user("Say yes.")];
    let request = ChatRequest {
        messages: &messages,
        tools: None,
        session: "doctor",
        sample: 0,
        step: 0,
        instance_id: "doctor",
        timeout: Duration::from_secs(30),
    };
    Ok(match client.chat(request, &CancellationToken::new()).await {
        Ok(_) => ok(NAME, format!("{url} answers")),
        Err(LlmError::Refused(reason)) => {
            warning(NAME, format!("{url} answers, and refuses: {reason}"), "check the model's name")
        }
        Err(error) => {
            failed(NAME, format!("{url}: {error}"), Some("check address, key and model name".to_owned()))
        }
    })
}

fn ok(name: &'static str, finding: String) -> Check {
    Check { name, state: State::Ok, finding, remedy: None }
}

fn warning(name: &'static str, finding: String, remedy: &str) -> Check {
    Check { name, state: State::Warning, finding, remedy: Some(remedy.to_owned()) }
}

fn failed(name: &'static str, finding: String, remedy: Option<String>) -> Check {
    Check { name, state: State::Failed, finding, remedy }
}

fn text(checks: &[Check]) -> String {
    let mut rows = table::new(["check", "", "finding"]);
    for check in checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
            State::Skipped => "skipped",
        };
        let remedy = check.remedy.as_ref().map(|remedy| format!("\nfix: {remedy}")).unwrap_or_default();
        rows.add_row([check.name, state, &format!("{}{remedy}", check.finding)]);
    }
    rows.to_string()
}
