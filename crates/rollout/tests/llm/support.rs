//! What the tests of the model client share.

use std::time::Duration;

use serde_json::{Value, json};
use thresher_core::fault::{Blame, Retry};
use thresher_core::run_spec::ModelSpec;
use thresher_rollout::llm::{ChatReply, ChatRequest, Llm, LlmError, Message};
use thresher_testkit::{Answer, FaultPlan, Misbehaviour, ModelServer, ModelServerSpec, Reply, Turn};
use tokio_util::sync::CancellationToken;

pub(crate) const SESSION: &str = "rollout-7";

/// A spec whose pauses are over at once; `change` is merged over it.
pub(crate) fn spec(server: &ModelServer, change: Value) -> ModelSpec {
    spec_at(server.base_url(), change)
}

pub(crate) fn spec_at(base_url: &str, change: Value) -> ModelSpec {
    let mut spec = json!({
        "name": "m",
        "base_url": base_url,
        "client": { "backoff_ms": 0, "max_backoff_ms": 0, "first_byte_timeout_s": 60, "stall_timeout_s": 60 },
    });
    merge(&mut spec, change);
    serde_json::from_value(spec).expect("the spec is one")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

/// A server whose first requests go wrong in this way.
pub(crate) async fn server_with(misbehaviours: impl IntoIterator<Item = Misbehaviour>) -> ModelServer {
    server(ModelServerSpec { faults: FaultPlan::first(misbehaviours), ..ModelServerSpec::default() }).await
}

/// A server with which everything goes wrong in this way.
pub(crate) async fn broken_server(misbehaviour: Misbehaviour) -> ModelServer {
    let faults = FaultPlan { chances: vec![(1.0, misbehaviour)], ..FaultPlan::default() };
    server(ModelServerSpec { faults, ..ModelServerSpec::default() }).await
}

/// A server that wants the default session headers.
pub(crate) async fn server(change: ModelServerSpec) -> ModelServer {
    let session_headers = vec!["X-Session-ID".to_owned(), "X-SMG-Routing-Key".to_owned()];
    ModelServer::start(ModelServerSpec { session_headers, ..change }, reply_with_everything)
        .await
        .expect("a loopback port is free")
}

fn reply_with_everything(turn: &Turn) -> Answer {
    let reply = Reply::text("Ich prüfe „sum“ 🦀 first.").reasoning("The sum is off by one: ∑.");
    let reply = if turn.body.get("tools").is_some() {
        let arguments = json!({ "path": "/testbed/ä.py", "text": "line\n\t\"quoted\"" });
        reply.call("search", arguments).call("finish", json!({}))
    } else {
        reply
    };
    reply.into()
}

pub(crate) fn tools() -> Value {
    let tool = |name: &str| {
        let parameters = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
        json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": parameters } })
    };
    json!([tool("search"), tool("finish")])
}

pub(crate) async fn ask(llm: &dyn Llm, tools: Option<&Value>) -> Result<ChatReply, LlmError> {
    ask_within(llm, tools, Duration::from_secs(120), &CancellationToken::new()).await
}

pub(crate) async fn ask_within(
    llm: &dyn Llm,
    tools: Option<&Value>,
    timeout: Duration,
    cancel: &CancellationToken,
) -> Result<ChatReply, LlmError> {
    let messages = [Message::system("You fix things."), Message::user("Fix sum().")];
    let request = ChatRequest {
        messages: &messages,
        tools,
        session: SESSION,
        sample: 1,
        step: 0,
        instance_id: "demo-1",
        timeout,
    };
    llm.chat(request, cancel).await
}

/// The reply without what differs from try to try.
pub(crate) fn essence(reply: ChatReply) -> ChatReply {
    ChatReply { tries: 0, latency: Duration::ZERO, first_byte: Duration::ZERO, ..reply }
}

/// What an end looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    Overflow,
    Refused,
    Fault(Blame, Retry),
    Reply,
    Cancelled,
}

pub(crate) fn ending(result: &Result<ChatReply, LlmError>) -> Ending {
    match result {
        Err(LlmError::ContextOverflow(_)) => Ending::Overflow,
        Err(LlmError::Refused(_)) => Ending::Refused,
        Err(LlmError::Fault(fault)) => Ending::Fault(fault.blame, fault.retry),
        Err(LlmError::Cancelled) => Ending::Cancelled,
        Ok(_) => Ending::Reply,
    }
}
