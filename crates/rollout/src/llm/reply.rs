//! From a completion object to a reply. Streams are re-assembled into such an object first, so that both ways of
//! asking end here.

use std::collections::HashSet;

use serde_json::{Map, Value};
use thresher_core::trajectory::{ToolCall, Usage};

use super::ChatReply;

/// What a well-formed body says.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// A reply; `raw`, tries and timings are still to be filled in.
    Reply(Box<ChatReply>),
    /// An error object where a reply was expected, as gateways send it with status 200.
    Error(Value),
    /// The endpoint's filter took the reply away.
    Filtered,
}

/// Reads a completion object; `step` makes ids for calls that came without one.
///
/// # Errors
/// A sentence on what is missing, where the object holds neither a reply nor an error.
pub(super) fn decode(body: &Value, step: u32) -> Result<Body, String> {
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Ok(Body::Error(error.clone()));
    }
    let choice = body.pointer("/choices/0").ok_or("the reply has no choices")?;
    if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
        return Ok(Body::Error(error.clone()));
    }
    let message = choice.get("message").and_then(Value::as_object).ok_or("the choice has no message")?;
    let finish_reason = text(choice.get("finish_reason"));
    match finish_reason.as_deref() {
        Some("content_filter") => return Ok(Body::Filtered),
        Some("error") => return Err("the endpoint broke the reply off with an error".to_owned()),
        _ => {}
    }
    Ok(Body::Reply(Box::new(ChatReply {
        content: content(message)?,
        reasoning: text(message.get("reasoning_content")).or_else(|| text(message.get("reasoning"))),
        tool_calls: tool_calls(message.get("tool_calls"), step)?,
        finish_reason,
        usage: usage(body.get("usage")),
        ..ChatReply::default()
    })))
}

/// A non-empty string.
fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The message's text: a string, a list of text parts, or a refusal in the model's own words.
fn content(message: &Map<String, Value>) -> Result<String, String> {
    let content = match message.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        Some(_) => return Err("the message's content is no text".to_owned()),
    };
    if content.is_empty() { Ok(text(message.get("refusal")).unwrap_or_default()) } else { Ok(content) }
}

fn tool_calls(calls: Option<&Value>, step: u32) -> Result<Vec<ToolCall>, String> {
    let calls = match calls {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err("the message's tool_calls are no list".to_owned()),
    };
    let mut ids = HashSet::new();
    calls.iter().enumerate().map(|(at, call)| tool_call(call, step, at, &mut ids)).collect()
}

/// One call, as OpenAI writes it, or with `name` and `arguments` directly in it.
fn tool_call(call: &Value, step: u32, at: usize, ids: &mut HashSet<String>) -> Result<ToolCall, String> {
    let function = call.get("function").unwrap_or(call);
    let name = text(function.get("name")).ok_or("a tool call has no name")?;
    let arguments = arguments(function.get("arguments"));
    let arguments_valid = serde_json::from_str::<Map<String, Value>>(&arguments).is_ok();
    // Some servers send no id, or the same one for parallel calls; an answer must name exactly one call.
    let id =
        text(call.get("id")).filter(|id| !ids.contains(id)).unwrap_or_else(|| format!("call_{step}_{at}"));
    ids.insert(id.clone());
    Ok(ToolCall { id, name, arguments, arguments_valid })
}

/// The arguments' text. Servers differ in how they write a call without arguments; here it is always `{}`.
fn arguments(arguments: Option<&Value>) -> String {
    match arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(object) => object.to_string(),
    }
}

fn usage(usage: Option<&Value>) -> Usage {
    let count = |path: &str| usage.and_then(|usage| usage.pointer(path)?.as_u64());
    Usage {
        prompt_tokens: count("/prompt_tokens").unwrap_or(0),
        completion_tokens: count("/completion_tokens").unwrap_or(0),
        cached_tokens: count("/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/prompt_cache_hit_tokens"))
            .unwrap_or(0),
        reasoning_tokens: count("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(message: Value) -> ChatReply {
        match decode(&json!({ "choices": [{ "message": message, "finish_reason": "stop" }] }), 3) {
            Ok(Body::Reply(reply)) => *reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    #[test]
    fn the_ways_to_write_a_text() {
        let table = [
            (json!({ "content": "a" }), "a", None),
            (json!({ "content": null }), "", None),
            (json!({}), "", None),
            (
                json!({ "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }),
                "ab",
                None,
            ),
            (json!({ "content": null, "refusal": "I will not." }), "I will not.", None),
            (json!({ "content": "a", "reasoning_content": "hm" }), "a", Some("hm")),
            (json!({ "content": "a", "reasoning": "hm", "reasoning_content": null }), "a", Some("hm")),
            (json!({ "content": "a", "reasoning": "" }), "a", None),
        ];
        for (message, content, reasoning) in table {
            let reply = reply(message.clone());
            assert_eq!(
                (reply.content.as_str(), reply.reasoning.as_deref()),
                (content, reasoning),
                "{message}"
            );
        }
    }

    #[test]
    fn the_ways_to_write_a_call() {
        let call =
            |function: Value| json!({ "content": null, "tool_calls": [{ "id": "a", "function": function }] });
        let table = [
            (call(json!({ "name": "f", "arguments": "{\"x\": 1}" })), "{\"x\": 1}", true),
            (call(json!({ "name": "f", "arguments": { "x": 1 } })), "{\"x\":1}", true),
            (call(json!({ "name": "f", "arguments": "" })), "{}", true),
            (call(json!({ "name": "f" })), "{}", true),
            (call(json!({ "name": "f", "arguments": "{\"x\": " })), "{\"x\": ", false),
            (call(json!({ "name": "f", "arguments": "[1]" })), "[1]", false),
            (json!({ "tool_calls": [{ "id": "a", "name": "f", "arguments": "{}" }] }), "{}", true),
        ];
        for (message, arguments, valid) in table {
            let calls = reply(message.clone()).tool_calls;
            let expected = ToolCall {
                id: "a".into(),
                name: "f".into(),
                arguments: arguments.into(),
                arguments_valid: valid,
            };
            assert_eq!(calls, [expected], "{message}");
        }
    }

    #[test]
    fn every_call_of_a_reply_has_its_own_id() {
        let call = |id: Value| json!({ "id": id, "function": { "name": "f" } });
        let message =
            json!({ "tool_calls": [call(json!("a")), call(json!("a")), call(json!("")), call(Value::Null)] });
        let ids: Vec<_> = reply(message).tool_calls.into_iter().map(|call| call.id).collect();
        assert_eq!(ids, ["a", "call_3_1", "call_3_2", "call_3_3"]);
    }

    #[test]
    fn usage_in_the_dialects() {
        let table = [
            (json!({ "prompt_tokens": 5, "completion_tokens": 2 }), (5, 2, 0, 0)),
            (
                json!({ "prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": { "cached_tokens": 4 },
                        "completion_tokens_details": { "reasoning_tokens": 1 } }),
                (5, 2, 4, 1),
            ),
            (
                json!({ "prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 3 }),
                (5, 2, 3, 0),
            ),
            (json!({ "prompt_tokens": 5, "prompt_tokens_details": null }), (5, 0, 0, 0)),
            (Value::Null, (0, 0, 0, 0)),
        ];
        for (value, (prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens)) in table {
            let expected = Usage { prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens };
            assert_eq!(usage(Some(&value)), expected, "{value}");
        }
    }

    #[test]
    fn what_is_no_reply() {
        let with = |choice: Value| json!({ "choices": [choice] });
        let table = [
            (json!({ "error": { "message": "m" } }), Ok(Body::Error(json!({ "message": "m" })))),
            (with(json!({ "error": { "code": 502 } })), Ok(Body::Error(json!({ "code": 502 })))),
            (with(json!({ "message": {}, "finish_reason": "content_filter" })), Ok(Body::Filtered)),
            (with(json!({ "message": {}, "finish_reason": "error" })), Err(())),
            (with(json!({ "message": { "content": 7 } })), Err(())),
            (with(json!({ "message": { "tool_calls": {} } })), Err(())),
            (with(json!({ "message": { "tool_calls": [{ "id": "a" }] } })), Err(())),
            (with(json!({})), Err(())),
            (json!({ "choices": [] }), Err(())),
            (json!(null), Err(())),
        ];
        for (body, expected) in table {
            assert_eq!(decode(&body, 0).map_err(|_| ()), expected, "{body}");
        }
    }
}
