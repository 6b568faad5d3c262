//! The key, and what is checked before anything is sent.

use serde_json::json;
use thresher_core::fault::{Blame, Retry};
use thresher_core::secret::Secret;
use thresher_rollout::llm::connect;
use thresher_testkit::{FaultPlan, Misbehaviour, ModelServer, ModelServerSpec, Reply, Turn};

use crate::support::*;

const KEY: &str = "sk-thresher-test-0123456789";

#[tokio::test]
async fn the_key_goes_out_and_never_comes_back() {
    let echo = json!({ "error": { "message": format!("bad key {KEY}") } }).to_string();
    let status = |status| Misbehaviour::Status { status, retry_after: None, body: echo.clone() };
    let table = [
        vec![status(400)],
        vec![status(401)],
        vec![status(503); 3],
        vec![Misbehaviour::Status { status: 200, retry_after: None, body: echo.clone() }; 3],
        vec![Misbehaviour::Status { status: 418, retry_after: None, body: format!("<{KEY}>") }],
    ];
    for misbehaviours in table {
        let faults = FaultPlan::first(misbehaviours.clone());
        let spec_of_server =
            ModelServerSpec { key: Some(KEY.to_owned()), faults, ..ModelServerSpec::default() };
        let server = server(spec_of_server).await;
        let spec = spec(&server, json!({ "client": { "max_tries": 3 } }));
        let llm = connect(&spec, Some(Secret::new(KEY)), None).unwrap();
        let error = ask(&*llm, None).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("[redacted]") && !shown.contains(KEY), "{misbehaviours:?}: {shown}");
        assert_eq!(server.exchanges()[0].headers["authorization"], format!("Bearer {KEY}"));
    }
}

#[tokio::test]
async fn a_wrong_key_is_a_fault_of_the_configuration() {
    let server = server(ModelServerSpec { key: Some(KEY.to_owned()), ..ModelServerSpec::default() }).await;
    for key in [None, Some(Secret::new("sk-another-key-000"))] {
        let llm = connect(&spec(&server, json!({})), key, None).unwrap();
        let result = ask(&*llm, None).await;
        assert_eq!(ending(&result), Ending::Fault(Blame::Configuration, Retry::Never));
        assert!(!result.unwrap_err().to_string().contains("sk-another"));
    }
}

#[tokio::test]
async fn a_reply_that_holds_the_key_is_redacted_everywhere() {
    let script =
        |_: &Turn| Reply::text(format!("my key is {KEY}")).call("search", json!({ "path": KEY })).into();
    let server = ModelServer::start(
        ModelServerSpec { key: Some(KEY.to_owned()), ..ModelServerSpec::default() },
        script,
    );
    let server = server.await.unwrap();
    for stream in [false, true] {
        let llm = connect(&spec(&server, json!({ "stream": stream })), Some(Secret::new(KEY)), None).unwrap();
        let reply = ask(&*llm, Some(&tools())).await.unwrap();
        let shown = format!("{reply:?}");
        assert!(!shown.contains(KEY) && reply.content == "my key is [redacted]", "{shown}");
    }
}

#[test]
fn setups_that_cannot_work_are_named() {
    let table = [
        (json!({ "base_url": null }), None, "neither base_url nor replay"),
        (json!({ "base_url": "localhost:8000" }), None, "is not an http or https address"),
        (json!({ "client": { "max_tries": 0 } }), None, "client.max_tries: must be at least 1"),
        (json!({ "client": { "max_concurrency": 0 } }), None, "client.max_concurrency: must be at least 1"),
        (json!({ "client": { "retry_ratio": -1.0 } }), None, "client.retry_ratio: must be 0 or more"),
        (json!({ "client": { "session_headers": ["a b"] } }), None, "\"a b\" is not a header name"),
        (json!({ "extra_body": { "messages": [] } }), None, "extra_body may not set \"messages\""),
        (json!({}), Some("sk-1\n2"), "the API key holds characters"),
        (json!({ "replay": "/nowhere/replies.jsonl" }), None, "cannot read recorded replies from /nowhere"),
    ];
    for (change, key, expected) in table {
        let result = connect(&spec_at("http://127.0.0.1:1/v1", change), key.map(Secret::new), None);
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected) && !error.contains("sk-1"), "{error:?} lacks {expected:?}");
    }
}

#[tokio::test]
async fn a_recording_goes_before_the_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replies.jsonl");
    let line = json!({ "instance_id": "demo-1", "step": 0, "reply": { "content": "recorded" } });
    std::fs::write(&path, line.to_string()).unwrap();
    let llm = connect(&spec_at("http://127.0.0.1:1/v1", json!({})), None, Some(path)).unwrap();
    assert_eq!(ask(&*llm, None).await.unwrap().content, "recorded");
    assert_eq!((llm.provider().as_str(), llm.model()), ("replay", "m"));
}
