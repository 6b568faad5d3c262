//! Ends without a reply: refusals, faults, deadlines, cancelling.

use std::time::Duration;

use serde_json::{Value, json};
use thresher_core::fault::{Blame, Retry};
use thresher_rollout::llm::{LlmError, connect};
use thresher_testkit::{End, Misbehaviour, ModelServerSpec, Outcome};
use tokio_util::sync::CancellationToken;

use crate::support::*;

#[tokio::test]
async fn ends_that_no_retry_changes_take_one_try() {
    let overflow = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.";
    let configuration = Ending::Fault(Blame::Configuration, Retry::Never);
    let table = [
        (400, "bad field", Ending::Refused),
        (413, "too large", Ending::Refused),
        (422, "no such thing", Ending::Refused),
        (400, overflow, Ending::Overflow),
        (413, overflow, Ending::Overflow),
        (500, overflow, Ending::Overflow),
        (401, "who are you", configuration),
        (402, "pay", configuration),
        (403, "not you", configuration),
        (404, "no such model", configuration),
        (301, "elsewhere", configuration),
    ];
    for (status, message, expected) in table {
        let server = server_with([Misbehaviour::status(status, message)]).await;
        let llm = connect(&spec(&server, json!({})), None, None).unwrap();
        let result = ask(&*llm, None).await;
        assert_eq!(ending(&result), expected, "{status} {message}");
        let text = result.unwrap_err().to_string();
        assert!(text.contains(message) && text.contains(&status.to_string()), "{text}");
        assert_eq!(server.exchanges().len(), 1, "{status} {message}");
    }
}

#[tokio::test]
async fn an_error_inside_of_a_reply_is_judged_like_one_outside() {
    let inside = |after, error: Value| Misbehaviour::ErrorInside { after, error: error.to_string() };
    let instead =
        |body: Value| Misbehaviour::Status { status: 200, retry_after: None, body: body.to_string() };
    let filtered = json!({ "choices": [{ "message": {}, "finish_reason": "content_filter" }] });
    let table = [
        (inside(0, json!({ "code": 502, "message": "upstream" })), Ending::Reply, 2),
        (inside(3, json!({ "message": "the engine died" })), Ending::Reply, 2),
        (inside(3, json!({ "code": "context_length_exceeded", "message": "m" })), Ending::Overflow, 1),
        (inside(3, json!({ "code": 400, "message": "m" })), Ending::Refused, 1),
        (instead(filtered), Ending::Refused, 1),
        (instead(json!({ "choices": [] })), Ending::Reply, 2),
    ];
    for stream in [false, true] {
        for (misbehaviour, expected, tries) in &table {
            let server = server_with([misbehaviour.clone()]).await;
            let llm = connect(&spec(&server, json!({ "stream": stream })), None, None).unwrap();
            let result = ask(&*llm, None).await;
            assert_eq!((&ending(&result), server.exchanges().len()), (expected, *tries), "{misbehaviour:?}");
        }
    }
}

#[tokio::test]
async fn an_outage_ends_as_a_fault_of_the_model() {
    let server = broken_server(Misbehaviour::status(503, "loading")).await;
    let table = [
        (json!({ "client": { "max_tries": 3 } }), 3, "3 tries: all tries failed"),
        // One try and the 100 retries that the budget holds before any success.
        (
            json!({ "client": { "max_tries": 1000 } }),
            101,
            "101 tries: the retry budget that all calls share is spent",
        ),
    ];
    let mut asked = 0;
    for (change, tries, why) in table {
        let llm = connect(&spec(&server, change), None, None).unwrap();
        let result = ask(&*llm, None).await;
        assert_eq!(ending(&result), Ending::Fault(Blame::Model, Retry::Later));
        let text = result.unwrap_err().to_string();
        assert!(text.contains(why) && text.contains("HTTP 503: loading"), "{text}");
        asked += tries;
        assert_eq!(server.exchanges().len(), asked);
    }
}

#[tokio::test]
async fn a_spent_budget_leaves_later_calls_one_try_each() {
    let server = broken_server(Misbehaviour::Reset).await;
    let llm = connect(&spec(&server, json!({ "client": { "max_tries": 1000 } })), None, None).unwrap();
    ask(&*llm, None).await.unwrap_err();
    let before = server.exchanges().len();
    for calls in 1..=3 {
        let error = ask(&*llm, None).await.unwrap_err();
        assert!(error.to_string().contains("1 try: the retry budget"), "{error}");
        assert_eq!(server.exchanges().len(), before + calls);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base_url = format!("http://127.0.0.1:{port}/v1");
    let llm = connect(&spec_at(&base_url, json!({ "client": { "max_tries": 2 } })), None, None).unwrap();
    let result = ask(&*llm, None).await;
    assert_eq!(ending(&result), Ending::Fault(Blame::Model, Retry::Later));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("refused") && text.contains("2 tries"), "{text}");
}

/// One deadline is short in each case, so that only that one can pass, however slow the machine is.
#[tokio::test]
async fn silences_end_at_their_deadline() {
    let table = [
        (Misbehaviour::Silence, json!({ "first_byte_timeout_s": 1 }), "no byte of a reply within 1 s"),
        (
            Misbehaviour::Stall { after: 0 },
            json!({ "first_byte_timeout_s": 1 }),
            "no byte of a reply within 1 s",
        ),
        (Misbehaviour::Stall { after: 2 }, json!({ "stall_timeout_s": 1 }), "the reply stalled for 1 s"),
    ];
    let cases = table.into_iter().flat_map(|case| [(false, case.clone()), (true, case)]);
    let cases = cases.map(|(stream, (misbehaviour, mut client, reason))| async move {
        let server = broken_server(misbehaviour).await;
        client["max_tries"] = json!(1);
        let llm = connect(&spec(&server, json!({ "stream": stream, "client": client })), None, None).unwrap();
        let result = ask(&*llm, None).await;
        assert_eq!(ending(&result), Ending::Fault(Blame::Model, Retry::Later));
        let text = result.unwrap_err().to_string();
        assert!(text.contains(reason) && text.contains("1 try"), "{text}");
        server.wait_for(|exchanges| exchanges[0].end == End::HungUp).await;
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_pause_that_does_not_fit_is_not_begun() {
    let server = server_with([Misbehaviour::too_many_requests("3600")]).await;
    let llm = connect(&spec(&server, json!({})), None, None).unwrap();
    let result = ask(&*llm, None).await;
    assert_eq!(ending(&result), Ending::Fault(Blame::Model, Retry::Later));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("the next try, in 3600.0s, would be after") && text.contains("HTTP 429"), "{text}");
}

#[tokio::test]
async fn a_query_ends_at_its_time_limit() {
    let server = broken_server(Misbehaviour::Silence).await;
    let llm = connect(&spec(&server, json!({})), None, None).unwrap();
    let result = ask_within(&*llm, None, Duration::from_millis(50), &CancellationToken::new()).await;
    assert_eq!(ending(&result), Ending::Fault(Blame::Model, Retry::Later));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("the time limit of 50.0ms for the query passed"), "{text}");
}

/// However far the reply has come, cancelling closes the connection, so that the endpoint stops generating.
#[tokio::test]
async fn cancelling_hangs_up() {
    let table = [Misbehaviour::Silence, Misbehaviour::Stall { after: 0 }, Misbehaviour::Stall { after: 3 }];
    for stream in [false, true] {
        for misbehaviour in &table {
            let server = server_with([misbehaviour.clone()]).await;
            let llm = connect(&spec(&server, json!({ "stream": stream })), None, None).unwrap();
            let cancel = CancellationToken::new();
            let call = ask_within(&*llm, None, Duration::from_secs(120), &cancel);
            let canceller = async {
                server
                    .wait_for(|exchanges| exchanges.iter().any(|one| one.outcome != Outcome::Pending))
                    .await;
                cancel.cancel();
            };
            let (result, ()) = tokio::join!(call, canceller);
            assert_eq!(result, Err(LlmError::Cancelled));
            server.wait_for(|exchanges| exchanges[0].end == End::HungUp).await;
            assert_eq!(server.exchanges().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_cancelled_token_asks_nothing() {
    let server = server(ModelServerSpec::default()).await;
    let llm = connect(&spec(&server, json!({})), None, None).unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let result = ask_within(&*llm, None, Duration::from_secs(1), &cancel).await;
    assert_eq!((result, server.exchanges().len()), (Err(LlmError::Cancelled), 0));
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_allowed() {
    let latency = (Duration::from_millis(1), Duration::from_millis(3));
    let server = server(ModelServerSpec { latency, ..ModelServerSpec::default() }).await;
    let llm = connect(&spec(&server, json!({ "client": { "max_concurrency": 2 } })), None, None).unwrap();
    let replies = futures::future::join_all((0..20).map(|_| ask(&*llm, None))).await;
    assert!(replies.iter().all(Result::is_ok));
    let most = server.exchanges().iter().map(|exchange| exchange.open).max();
    assert!(most <= Some(2), "{most:?}");
}

#[tokio::test]
async fn without_a_limit_all_calls_are_in_flight() {
    let server = broken_server(Misbehaviour::Silence).await;
    let llm = connect(&spec(&server, json!({})), None, None).unwrap();
    let cancel = CancellationToken::new();
    let timeout = Duration::from_secs(120);
    let calls = futures::future::join_all((0..20).map(|_| ask_within(&*llm, None, timeout, &cancel)));
    let all_there = async {
        server.wait_for(|exchanges| exchanges.len() == 20).await;
        cancel.cancel();
    };
    let (replies, ()) = tokio::join!(calls, all_there);
    assert!(replies.iter().all(|reply| *reply == Err(LlmError::Cancelled)));
    assert_eq!(server.exchanges().iter().map(|exchange| exchange.open).max(), Some(20));
}
