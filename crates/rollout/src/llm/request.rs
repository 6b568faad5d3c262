//! From a query to the bytes of its body, made once and sent with every try.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use thresher_core::run_spec::ModelSpec;
use thresher_core::trajectory::ToolCall;

use super::{ChatRequest, LlmSetupError, Message};

/// Fields that the client sets, or whose meaning it relies on (`n`: one choice).
const OWN_FIELDS: [&str; 5] = ["model", "messages", "tools", "stream", "n"];

/// Checks that `extra_body` leaves the client's own fields alone.
pub(super) fn check_extra_body(extra: &BTreeMap<String, Value>) -> Result<(), LlmSetupError> {
    match OWN_FIELDS.iter().find(|field| extra.contains_key(**field)) {
        Some(field) => Err(LlmSetupError::ExtraBody((*field).to_owned())),
        None => Ok(()),
    }
}

/// Writes the body. Fields of `extra_body` go before the spec's sampling fields of the same name.
pub(super) fn body(spec: &ModelSpec, request: &ChatRequest<'_>) -> Vec<u8> {
    let sampling = &spec.sampling;
    let ours = |field: &str| !spec.extra_body.contains_key(field);
    let body = Body {
        model: &spec.name,
        messages: request.messages.iter().map(WireMessage::from).collect(),
        tools: request.tools,
        temperature: sampling.temperature.filter(|_| ours("temperature")).map(shortest),
        top_p: sampling.top_p.filter(|_| ours("top_p")).map(shortest),
        seed: sampling.seed.filter(|_| ours("seed")).map(|seed| seed.wrapping_add(request.sample.into())),
        max_tokens: sampling.max_output_tokens.filter(|_| ours("max_tokens")),
        stop: if ours("stop") { &sampling.stop } else { &[] },
        stream: spec.stream,
        stream_options: (spec.stream && ours("stream_options"))
            .then_some(StreamOptions { include_usage: true }),
        extra: &spec.extra_body,
    };
    serde_json::to_vec(&body).expect("text, numbers and JSON values have a JSON form")
}

/// The double that prints as the single does: 0.7, where a plain cast would send 0.699999988079071.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    extra: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> From<&'a Message> for WireMessage<'a> {
    fn from(message: &'a Message) -> Self {
        let only_calls = message.content.is_empty() && !message.tool_calls.is_empty();
        Self {
            role: message.role.as_str(),
            // Some endpoints refuse an empty text beside calls; all of them accept its absence.
            content: (!only_calls).then_some(message.content.as_str()),
            tool_calls: message.tool_calls.iter().map(WireCall::from).collect(),
            tool_call_id: message.tool_call_id.as_deref(),
            name: message.name.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for WireCall<'a> {
    fn from(call: &'a ToolCall) -> Self {
        // Endpoints parse the arguments of earlier calls for the chat template, and refuse the whole conversation
        // where they are no object. The tool message after the call tells the model what was wrong with them.
        let arguments = if call.arguments_valid { &call.arguments } else { "{}" };
        Self { id: &call.id, kind: "function", function: WireFunction { name: &call.name, arguments } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn written(spec: Value, messages: &[Message], tools: Option<&Value>) -> Value {
        let spec: ModelSpec = serde_json::from_value(spec).unwrap();
        let request = ChatRequest {
            messages,
            tools,
            session: "s",
            sample: 2,
            step: 0,
            instance_id: "i",
            timeout: Duration::from_secs(1),
        };
        let bytes = body(&spec, &request);
        assert!(!String::from_utf8_lossy(&bytes).contains("null"), "a field without value was sent");
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn only_what_is_set_is_sent() {
        let user = [Message::user("hi")];
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let table = [
            (json!({ "name": "m" }), json!({ "model": "m", "messages": messages })),
            (
                json!({ "name": "m", "stream": true }),
                json!({ "model": "m", "messages": messages, "stream": true, "stream_options": { "include_usage": true } }),
            ),
            (
                json!({ "name": "m", "sampling": { "temperature": 0.7, "top_p": 0.95, "seed": 40, "max_output_tokens": 9, "stop": ["</function>"] } }),
                json!({ "model": "m", "messages": messages, "temperature": 0.7, "top_p": 0.95, "seed": 42, "max_tokens": 9, "stop": ["</function>"] }),
            ),
            (
                json!({ "name": "m", "sampling": { "temperature": 1.0, "max_output_tokens": 9 }, "extra_body": { "top_k": 20, "max_tokens": 7 } }),
                json!({ "model": "m", "messages": messages, "temperature": 1.0, "top_k": 20, "max_tokens": 7 }),
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(written(spec.clone(), &user, None), expected, "{spec}");
        }
    }

    #[test]
    fn calls_and_their_answers() {
        let call = |id: &str, arguments: &str, arguments_valid| ToolCall {
            id: id.into(),
            name: "search".into(),
            arguments: arguments.into(),
            arguments_valid,
        };
        let calls = vec![call("a", "{\"x\": 1}", true), call("b", "{\"x\": ", false)];
        let messages = [
            Message::system("rules"),
            Message::tool(&calls[0], "found"),
            Message::assistant("", calls),
            Message::assistant("text", Vec::new()),
        ];
        let tools = json!([{ "type": "function", "function": { "name": "search" } }]);
        let body = written(json!({ "name": "m" }), &messages, Some(&tools));
        let wire_call = |id: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": "search", "arguments": arguments } });
        let expected = json!([
            { "role": "system", "content": "rules" },
            { "role": "tool", "content": "found", "tool_call_id": "a", "name": "search" },
            { "role": "assistant", "tool_calls": [wire_call("a", "{\"x\": 1}"), wire_call("b", "{}")] },
            { "role": "assistant", "content": "text" },
        ]);
        assert_eq!(body["messages"], expected);
        assert_eq!(body["tools"], tools);
    }

    #[test]
    fn own_fields_stay_own() {
        for field in OWN_FIELDS {
            let extra = BTreeMap::from([(field.to_owned(), json!(1))]);
            assert!(check_extra_body(&extra).unwrap_err().to_string().contains(field));
        }
        assert!(check_extra_body(&BTreeMap::from([("top_k".to_owned(), json!(1))])).is_ok());
    }
}
