use std::time::Duration;

use thresher_core::trajectory::ToolCall;

use super::*;

const RECORDING: &str = r#"
# two tasks
{"instance_id": "a-1", "step": 0, "reply": {"content": "any", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}}
{"instance_id": "a-1", "sample": 1, "step": 0, "reply": {"content": "one", "reasoning": "hm", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}}
{"instance_id": "a-1", "step": 1, "repeat": true, "reply": {"content": "again", "finish_reason": "length"}}
{"instance_id": "a-1", "sample": 2, "step": 1, "repeat": true, "reply": {"content": "stuck"}}
{"instance_id": "a-1", "step": 3, "reply": {"content": "late"}}
{"instance_id": "b-2", "sample": 0, "step": 0, "reply": {"content": "b"}}
"#;

fn load(text: &str) -> Result<Replay, LlmSetupError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replies.jsonl");
    std::fs::write(&path, text).unwrap();
    Replay::load(&path, "m", None)
}

async fn ask(replay: &Replay, instance_id: &str, sample: u32, step: u32) -> Result<ChatReply, LlmError> {
    let request = ChatRequest {
        messages: &[],
        tools: None,
        session: "s",
        sample,
        step,
        instance_id,
        timeout: Duration::from_secs(1),
    };
    replay.chat(request, &CancellationToken::new()).await
}

#[tokio::test]
async fn the_nearest_line_answers() {
    let replay = load(RECORDING).unwrap();
    let table = [
        ("a-1", 0, 0, Ok("any")),
        ("a-1", 1, 0, Ok("one")),
        ("a-1", 0, 1, Ok("again")),
        ("a-1", 1, 1, Ok("again")),
        ("a-1", 7, 2, Ok("again")),
        ("a-1", 7, 3, Ok("late")),
        (
            "a-1",
            7,
            4,
            Err("no reply is recorded for a-1, sample 7, step 4; the recording has the steps 0, 1, 3"),
        ),
        ("a-1", 2, 0, Ok("any")),
        ("a-1", 2, 3, Ok("stuck")),
        ("a-1", 2, 40, Ok("stuck")),
        ("b-2", 0, 0, Ok("b")),
        ("b-2", 0, 1, Err("no reply is recorded for b-2, sample 0, step 1; the recording has the steps 0")),
        (
            "b-2",
            1,
            0,
            Err("no reply is recorded for b-2, sample 1, step 0; the recording has no step for this sample"),
        ),
        ("c-3", 0, 0, Err("no reply is recorded for c-3; there are replies for a-1, b-2")),
    ];
    for (instance, sample, step, expected) in table {
        let expected = expected.map(str::to_owned).map_err(|text| LlmError::Refused(text.to_owned()));
        let content = ask(&replay, instance, sample, step).await.map(|reply| reply.content);
        assert_eq!(content, expected, "{instance} {sample} {step}");
    }
}

#[tokio::test]
async fn a_recorded_reply_is_whole() {
    let replay = load(RECORDING).unwrap();
    let reply = ask(&replay, "a-1", 0, 0).await.unwrap();
    let call = ToolCall {
        id: "call_0_0".into(),
        name: "f".into(),
        arguments: r#"{"x":1}"#.into(),
        arguments_valid: true,
    };
    assert_eq!(reply.tool_calls, [call]);
    assert_eq!((reply.finish_reason.as_deref(), reply.tries), (Some("tool_calls"), 1));
    let raw: Value = serde_json::from_str(&reply.raw).unwrap();
    assert_eq!(raw["choices"][0]["message"]["content"], "any");
    let reply = ask(&replay, "a-1", 1, 0).await.unwrap();
    assert_eq!((reply.reasoning.as_deref(), reply.usage.prompt_tokens), (Some("hm"), 3));
    assert_eq!(ask(&replay, "a-1", 1, 2).await.unwrap().finish_reason.as_deref(), Some("length"));
}

#[test]
fn wrong_lines_are_named() {
    let good = r#"{"instance_id": "a", "step": 0, "reply": {"content": "x"}}"#;
    let table = [
        ("", "line 1: the file holds no reply"),
        ("\n{", "line 2: EOF"),
        (
            r#"{"instance_id": "a", "step": 0, "reply": {"contents": "x"}}"#,
            "line 1: unknown field `contents`",
        ),
        (
            r#"{"instance_id": "a", "step": 0, "reply": {"tool_calls": [{}]}}"#,
            "line 1: a tool call has no name",
        ),
        (&format!("{good}\n{good}"), "line 2: step 0 of this instance and sample is recorded twice"),
    ];
    for (text, expected) in table {
        let error = load(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    let error =
        Replay::load(Path::new("/nowhere/replies.jsonl"), "m", None).err().map(|error| error.to_string());
    assert!(error.unwrap().starts_with("cannot read recorded replies from /nowhere/replies.jsonl"));
}

#[tokio::test]
async fn recorded_tokens_cost_what_the_job_states() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replies.jsonl");
    let line = r#"{"instance_id": "a", "step": 0, "reply": {"content": "x", "usage": {"prompt_tokens": 1000000, "completion_tokens": 500000}}}"#;
    std::fs::write(&path, line).unwrap();
    let price = PriceSpec { prompt: 2.0, completion: 4.0, cached: None };
    let replay = Replay::load(&path, "m", Some(price)).unwrap();
    let reply = ask(&replay, "a", 0, 0).await.unwrap();
    assert_eq!(reply.cost_usd, Some(4.0));
}
