//! Setbacks that pass: the same request again, until there is a reply.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use thresher_rollout::llm::{ChatRequest, Llm, Message, connect};
use thresher_testkit::{Exchange, FaultPlan, Misbehaviour, ModelServerSpec, Outcome};
use tokio_util::sync::CancellationToken;

use crate::support::*;

fn bodies(exchanges: &[Exchange]) -> Vec<&[u8]> {
    exchanges.iter().map(|exchange| exchange.body.as_slice()).collect()
}

/// Every setback that passes: the second or third try gets the reply, with the same bytes and the same session.
#[tokio::test]
async fn setbacks_are_tried_again_with_the_same_request() {
    let status = |status| Misbehaviour::status(status, "later");
    let table = [
        vec![status(408)],
        vec![status(409)],
        vec![status(425)],
        vec![status(429), status(429)],
        vec![status(500), status(502), status(503), status(504), status(529)],
        vec![Misbehaviour::too_many_requests("0")],
        vec![Misbehaviour::too_many_requests("Sun, 06 Nov 1994 08:49:37 GMT")],
        vec![Misbehaviour::Reset],
        vec![Misbehaviour::Garbage],
        vec![Misbehaviour::Torn { after: 0 }],
        vec![Misbehaviour::Torn { after: 3 }],
        vec![Misbehaviour::Short { after: 3 }, Misbehaviour::Short { after: 0 }],
        vec![Misbehaviour::Reset, Misbehaviour::Garbage, Misbehaviour::Torn { after: 2 }],
    ];
    let tools = tools();
    for stream in [false, true] {
        let reliable = server(ModelServerSpec::default()).await;
        let change = json!({ "stream": stream, "sampling": { "seed": 3 } });
        let llm = connect(&spec(&reliable, change.clone()), None, None).unwrap();
        let expected = essence(ask(&*llm, Some(&tools)).await.unwrap());
        for misbehaviours in &table {
            let server = server_with(misbehaviours.iter().cloned()).await;
            let llm = connect(&spec(&server, change.clone()), None, None).unwrap();
            let reply = ask(&*llm, Some(&tools)).await.unwrap();
            assert_eq!(reply.tries as usize, misbehaviours.len() + 1, "{misbehaviours:?}");
            assert_eq!(essence(reply), expected, "{misbehaviours:?}");
            let exchanges = server.exchanges();
            assert!(bodies(&exchanges).windows(2).all(|pair| pair[0] == pair[1]), "{misbehaviours:?}");
            assert_eq!(exchanges[0].json()["seed"], 4, "the sample number is added to the seed");
            for exchange in &exchanges {
                assert_eq!(exchange.headers["x-session-id"], SESSION);
                assert_eq!(exchange.headers["x-smg-routing-key"], SESSION);
                assert!(!exchange.headers.contains_key("authorization"));
            }
            assert_eq!(server.refusals(), [""; 0]);
        }
    }
}

/// Hundreds of turns under random faults: all arrive, nothing is refused, and every retry is the same request.
#[tokio::test]
async fn a_run_under_random_faults_gets_all_its_replies() {
    let chances = vec![
        (0.06, Misbehaviour::Reset),
        (0.06, Misbehaviour::Torn { after: 4 }),
        (0.06, Misbehaviour::Garbage),
        (0.06, Misbehaviour::status(503, "busy")),
        (0.06, Misbehaviour::too_many_requests("0")),
    ];
    for stream in [false, true] {
        let faults = FaultPlan { chances: chances.clone(), seed: 11, ..FaultPlan::default() };
        let latency = (Duration::ZERO, Duration::from_millis(3));
        let server = server(ModelServerSpec { faults, latency, ..ModelServerSpec::default() }).await;
        let client = json!({ "max_tries": 30, "retry_ratio": 1.0 });
        let llm = connect(&spec(&server, json!({ "stream": stream, "client": client })), None, None).unwrap();
        let rollouts = (0..8_u32).map(|sample| tokio::spawn(converse(llm.clone(), sample)));
        for rollout in rollouts.collect::<Vec<_>>() {
            rollout.await.unwrap();
        }
        assert_eq!(server.refusals(), [""; 0]);
        let answered = |exchange: &&Exchange| exchange.outcome == Outcome::Answered;
        let exchanges = server.exchanges();
        assert_eq!(exchanges.iter().filter(answered).count(), 8 * 12);
        assert!(exchanges.len() > 8 * 12 + 10, "faults happened: {}", exchanges.len());
    }
}

/// Twelve turns of one rollout, with calls and answers.
async fn converse(llm: Arc<dyn Llm>, sample: u32) {
    let tools = tools();
    let mut messages = vec![Message::user("Fix sum().")];
    for step in 0..12 {
        let request = ChatRequest {
            messages: &messages,
            tools: Some(&tools),
            session: &format!("rollout-{sample}"),
            sample,
            step,
            instance_id: "demo-1",
            timeout: Duration::from_secs(120),
        };
        let reply = llm.chat(request, &CancellationToken::new()).await.expect("the faults pass");
        assert_eq!(reply.tool_calls.len(), 2);
        messages.push(Message::assistant(reply.content, reply.tool_calls.clone()));
        messages.extend(reply.tool_calls.iter().map(|call| Message::tool(call, "")));
    }
}
