//! What a reply is made of, streamed or not.

use std::time::Duration;

use serde_json::{Value, json};
use thresher_core::trajectory::Usage;
use thresher_rollout::llm::{ChatReply, ChatRequest, Message, connect};
use thresher_testkit::{ModelServer, ModelServerSpec, Reply, Turn};
use tokio_util::sync::CancellationToken;

use crate::support::*;

#[tokio::test]
async fn streamed_and_whole_replies_are_the_same() {
    let server = server(ModelServerSpec::default()).await;
    let tools = tools();
    let mut replies = Vec::new();
    for stream in [false, true] {
        let llm = connect(&spec(&server, json!({ "stream": stream })), None, None).unwrap();
        for tools in [None, Some(&tools)] {
            let reply = ask(&*llm, tools).await.unwrap();
            assert!(reply.tries == 1 && reply.first_byte <= reply.latency);
            replies.push(essence(reply));
        }
    }
    assert_eq!(server.refusals(), [""; 0]);
    let whole: Vec<Value> = replies.iter().map(|reply| serde_json::from_str(&reply.raw).unwrap()).collect();
    // The raw forms differ in the order of their fields at most.
    let without_raw: Vec<_> =
        replies.into_iter().map(|reply| ChatReply { raw: String::new(), ..reply }).collect();
    assert_eq!(without_raw[..2], without_raw[2..]);
    for (at_once, streamed) in whole[..2].iter().zip(&whole[2..]) {
        let message = |completion: &Value| completion["choices"][0]["message"]["reasoning_content"].clone();
        assert_eq!(message(at_once), message(streamed));
        assert_eq!(at_once["usage"], streamed["usage"]);
        assert_eq!(streamed["object"], "chat.completion");
    }
    let [text, with_tools] = &without_raw[..2] else { panic!("two replies") };
    assert_eq!(text.content, "Ich prüfe „sum“ 🦀 first.");
    assert_eq!(text.reasoning.as_deref(), Some("The sum is off by one: ∑."));
    assert_eq!((text.finish_reason.as_deref(), text.tool_calls.len()), (Some("stop"), 0));
    assert_eq!(with_tools.finish_reason.as_deref(), Some("tool_calls"));
    let calls: Vec<_> =
        with_tools.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())).collect();
    assert_eq!(calls, [("call_s0_0", "search"), ("call_s0_1", "finish")]);
    let arguments: Value = serde_json::from_str(&with_tools.tool_calls[0].arguments).unwrap();
    assert_eq!(arguments, json!({ "path": "/testbed/ä.py", "text": "line\n\t\"quoted\"" }));
    assert!(with_tools.tool_calls.iter().all(|call| call.arguments_valid));
}

#[tokio::test]
async fn a_conversation_with_calls_is_well_formed_on_the_wire() {
    let script = |turn: &Turn| match turn.step {
        0 => Reply::default().call("search", json!({ "path": "a" })).raw_call("search", "{\"path\": ").into(),
        _ => Reply::text("done").into(),
    };
    let server = ModelServer::start(ModelServerSpec::default(), script).await.unwrap();
    let tools = tools();
    for stream in [false, true] {
        let spec = spec(
            &server,
            json!({ "stream": stream, "sampling": { "temperature": 0.7, "seed": 5, "stop": ["</f>"] } }),
        );
        let llm = connect(&spec, None, None).unwrap();
        let first = ask(&*llm, Some(&tools)).await.unwrap();
        let valid: Vec<_> = first.tool_calls.iter().map(|call| call.arguments_valid).collect();
        assert_eq!(valid, [true, false]);
        let mut messages =
            vec![Message::user("Fix sum()."), Message::assistant(&first.content, first.tool_calls.clone())];
        messages.extend(first.tool_calls.iter().map(|call| Message::tool(call, "seen")));
        let request = ChatRequest {
            messages: &messages,
            tools: Some(&tools),
            session: SESSION,
            sample: 0,
            step: 1,
            instance_id: "demo-1",
            timeout: Duration::from_secs(60),
        };
        let second = llm.chat(request, &CancellationToken::new()).await.unwrap();
        assert_eq!(second.content, "done");
    }
    assert_eq!(server.refusals(), [""; 0]);
}

#[tokio::test]
async fn usage_and_cost() {
    let script = |_: &Turn| {
        let usage = json!({
            "prompt_tokens": 1_000_000, "completion_tokens": 500_000,
            "prompt_tokens_details": { "cached_tokens": 250_000 },
            "completion_tokens_details": { "reasoning_tokens": 100_000 },
        });
        Reply { usage: Some(usage), ..Reply::text("a") }.into()
    };
    let server = ModelServer::start(ModelServerSpec::default(), script).await.unwrap();
    for stream in [false, true] {
        let price = json!({ "prompt": 2.0, "completion": 8.0, "cached": 0.4 });
        let llm = connect(&spec(&server, json!({ "stream": stream, "price": price })), None, None).unwrap();
        let reply = ask(&*llm, None).await.unwrap();
        let usage = Usage {
            prompt_tokens: 1_000_000,
            completion_tokens: 500_000,
            cached_tokens: 250_000,
            reasoning_tokens: 100_000,
        };
        assert_eq!(reply.usage, usage);
        assert!(reply.cost_usd.is_some_and(|cost| (cost - 5.6).abs() < 1e-9), "{:?}", reply.cost_usd);
    }
    let llm = connect(&spec(&server, json!({})), None, None).unwrap();
    assert_eq!(ask(&*llm, None).await.unwrap().cost_usd, None);
}
