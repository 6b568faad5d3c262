//! A model endpoint that solves the small tasks of [`super::row`], and can be made to wait.

use std::sync::{Arc, Condvar, Mutex};

use serde_json::json;
use thresher_testkit::{Exchange, ModelServer, ModelServerSpec, Reply, Turn};
use tokio::runtime::Runtime;

use super::row::RIGHT;

/// The endpoint; it stops when dropped.
pub(crate) struct Endpoint {
    server: ModelServer,
    gate: Arc<Gate>,
    /// Last, so that the server is gone before it.
    _runtime: Runtime,
}

/// Holds replies back while it is shut.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }

    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl Endpoint {
    /// Starts one.
    pub(crate) fn start(spec: ModelServerSpec) -> Self {
        let runtime = Runtime::new().unwrap();
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        let script = move |turn: &Turn| {
            tokio::task::block_in_place(|| at_gate.pass());
            solve(turn).into()
        };
        let server = runtime.block_on(ModelServer::start(spec, script)).unwrap();
        Self { server, gate, _runtime: runtime }
    }

    /// The job's lines about this endpoint; the key is in the environment variable `SMALL_KEY`, if there is one.
    pub(crate) fn yaml(&self, has_key: bool) -> String {
        let key = if has_key { ", api_key_env: SMALL_KEY" } else { "" };
        format!("model: {{ name: small, base_url: \"{}\"{key} }}\n", self.server.base_url())
    }

    /// From now on replies wait.
    pub(crate) fn shut(&self) {
        self.gate.set(true);
    }

    /// Lets all replies out.
    pub(crate) fn open(&self) {
        self.gate.set(false);
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Exchange> {
        self.server.exchanges()
    }

    /// Why requests were refused.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.server.refusals()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Otherwise the runtime would wait for replies that wait.
        self.open();
    }
}

/// Looks around, mends the line, submits.
fn solve(turn: &Turn) -> Reply {
    let bash = |cmd: String| Reply::text("Next.").call("execute_bash", json!({ "cmd": cmd }));
    match turn.step {
        0 => bash("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat answer.sh".to_owned()),
        1 => bash(format!("echo '{RIGHT}' > answer.sh")),
        _ => Reply::text("Done.").call("finish", json!({ "command": "submit" })),
    }
}
