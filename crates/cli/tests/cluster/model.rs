//! A model endpoint that pods reach: recorded replies over HTTP, at a pace that the test sets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use thresher_testkit::{ModelServer, ModelServerSpec, Reply, Turn};
use tokio::runtime::Runtime;

/// The key that workers must send: it reaches them as a secret of the cluster.
pub(crate) const KEY: &str = "a-key-of-the-scripted-model";
/// The variable that it is in.
pub(crate) const KEY_VARIABLE: &str = "SCRIPTED_MODEL_KEY";

/// The endpoint; it stops when dropped.
pub(crate) struct Model {
    server: ModelServer,
    pace_ms: Arc<AtomicU64>,
    /// Last, so that the server is gone before it.
    _runtime: Runtime,
}

/// A task as the model tells it from others, and what it says to it.
struct Script {
    title: String,
    replies: Vec<Reply>,
}

impl Model {
    /// Starts one that solves those of the rows that there are recorded replies for, and submits nothing for the others.
    pub(crate) fn start(address: Ipv4Addr, rows: &[Value], replies: &Path) -> Self {
        let recorded = recorded(replies);
        let scripts: Vec<Script> = rows.iter().map(|row| script(row, &recorded)).collect();
        let pace_ms = Arc::new(AtomicU64::new(0));
        let pace = Arc::clone(&pace_ms);
        let say = move |turn: &Turn| {
            let pause = Duration::from_millis(pace.load(Ordering::Relaxed));
            tokio::task::block_in_place(|| std::thread::sleep(pause));
            let script = scripts.iter().find(|script| turn.mentions(&script.title));
            let reply = script.and_then(|script| script.replies.get(turn.step)).cloned();
            reply.unwrap_or_else(submit).into()
        };
        let spec = ModelServerSpec { key: Some(KEY.into()), ..ModelServerSpec::default() };
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(ModelServer::start_at(address, spec, say)).unwrap();
        Self { server, pace_ms, _runtime: runtime }
    }

    /// How long it thinks from now on.
    pub(crate) fn pace(&self, pause: Duration) {
        self.pace_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn base_url(&self) -> &str {
        self.server.base_url()
    }

    /// Why requests were refused.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.server.refusals()
    }
}

fn submit() -> Reply {
    Reply::text("Done.").call("finish", json!({ "command": "submit" }))
}

fn script(row: &Value, recorded: &BTreeMap<String, Vec<Reply>>) -> Script {
    let statement = row["problem_statement"].as_str().unwrap();
    let title = statement.lines().find(|line| line.contains("Title:")).expect("a statement has a title");
    let id = format!("{}__{}", row["repo_name"].as_str().unwrap(), row["commit_hash"].as_str().unwrap());
    Script { title: title.to_owned(), replies: recorded.get(&id).cloned().unwrap_or_default() }
}

/// Recorded replies by task, in their order.
fn recorded(path: &Path) -> BTreeMap<String, Vec<Reply>> {
    let mut replies: BTreeMap<String, Vec<Reply>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let reply = &line["reply"];
        let calls = reply["tool_calls"].as_array().unwrap();
        let said = Reply::text(reply["content"].as_str().unwrap_or_default());
        let said = calls
            .iter()
            .fold(said, |said, call| said.call(call["name"].as_str().unwrap(), call["arguments"].clone()));
        replies.entry(line["instance_id"].as_str().unwrap().to_owned()).or_default().push(said);
    }
    replies
}
