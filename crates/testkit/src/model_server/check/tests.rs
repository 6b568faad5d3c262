use serde_json::json;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter().copied().chain([("content-type", "application/json")]);
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The refusal's reason; empty where the request is well-formed.
fn reason(body: &Value) -> String {
    match request(&ModelServerSpec::default(), &headers(&[]), body.to_string().as_bytes()) {
        Ok(_) => String::new(),
        Err(refusal) => refusal.reason,
    }
}

fn talk(messages: Value) -> Value {
    let parameters =
        json!({ "type": "object", "properties": { "x": { "type": "string" } }, "required": ["x"] });
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": parameters } });
    json!({ "model": "m", "messages": messages, "tools": [tool] })
}

fn call(id: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"x\": \"1\"}" } })
}

fn calls(calls: &[Value]) -> Value {
    json!({ "role": "assistant", "tool_calls": calls })
}

fn answer(id: &str) -> Value {
    json!({ "role": "tool", "tool_call_id": id, "content": "" })
}

fn user() -> Value {
    json!({ "role": "user", "content": "u" })
}

#[test]
fn conversations() {
    let system = || json!({ "role": "system", "content": "s" });
    let said = json!({ "role": "assistant", "content": "a" });
    let broken = json!({ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{" } });
    let unknown = json!({ "id": "a", "type": "function", "function": { "name": "g", "arguments": "{}" } });
    let table = [
        (json!([user()]), ""),
        (json!([system(), user(), said, user()]), ""),
        (json!([user(), calls(&[call("a"), call("b")]), answer("b"), answer("a"), user()]), ""),
        (json!([user(), calls(&[call("a")]), answer("a"), calls(&[call("b")]), answer("b")]), ""),
        (json!([]), "there are no messages"),
        (json!([system()]), "ends with a message of the system"),
        (json!([user(), said]), "ends with a message of the assistant"),
        (json!([said, user()]), "message 0: an assistant message must follow"),
        (json!([user(), said, said, user()]), "message 2: an assistant message must follow"),
        (json!([system(), system(), user()]), "message 1: a system message may only come first"),
        (json!([user(), system()]), "message 1: a system message may only come first"),
        (json!([{ "role": "human", "content": "u" }]), "the role human is unknown"),
        (json!([{ "content": "u" }]), "there is no role"),
        (json!([{ "role": "user", "content": "" }]), "the content is no text, or empty"),
        (json!([{ "role": "user", "content": "u", "name": null }]), "the field name with the value null"),
        (json!([user(), { "role": "assistant", "content": "" }, user()]), "neither content nor a call"),
        (
            json!([user(), { "role": "assistant", "content": null, "tool_calls": [call("a")] }]),
            "content with",
        ),
        (json!([user(), calls(&[]), user()]), "tool_calls is no list, or empty"),
        (json!([user(), calls(&[call("a")]), user()]), "message 2: the calls {\"a\"} have no answer"),
        (json!([user(), calls(&[call("a"), call("b")]), answer("a")]), "the calls {\"b\"} have no answer"),
        (json!([user(), calls(&[call("a"), call("a")]), answer("a")]), "the call id a was used before"),
        (
            json!([user(), calls(&[call("a")]), answer("a"), calls(&[call("a")]), answer("a")]),
            "the call id a was used before",
        ),
        (json!([user(), calls(&[call("a")]), answer("b")]), "no open call has the id b"),
        (json!([user(), calls(&[call("a")]), answer("a"), answer("a")]), "no open call has the id a"),
        (json!([user(), answer("a")]), "no open call has the id a"),
        (json!([user(), calls(&[call("")]), answer("")]), "a call has no id"),
        (json!([user(), calls(&[broken]), answer("a")]), "are no JSON object: \"{\""),
        (json!([user(), calls(&[unknown]), answer("a")]), "g is called, but not defined"),
        (json!([user(), calls(&[json!({ "id": "a" })]), answer("a")]), "is not function"),
        (json!([user(), calls(&[call("a")]), { "role": "tool", "content": "" }]), "names no call"),
    ];
    for (messages, expected) in table {
        check_reason(&talk(messages), expected);
    }
    let mut untold = talk(json!([user(), calls(&[call("a")]), answer("a")]));
    untold.as_object_mut().unwrap().remove("tools");
    check_reason(&untold, "f is called, but no tools are defined");
}

#[track_caller]
fn check_reason(body: &Value, expected: &str) {
    let reason = reason(body);
    let fits = if expected.is_empty() { reason.is_empty() } else { reason.contains(expected) };
    assert!(fits, "{body}: {reason:?} instead of {expected:?}");
}

#[test]
fn fields() {
    let with = |field: &str, value: Value| {
        let mut body = talk(json!([user()]));
        body[field] = value;
        body
    };
    let function = |function: Value| json!([{ "type": "function", "function": function }]);
    let parameters = |parameters: Value| function(json!({ "name": "f", "parameters": parameters }));
    let table = [
        (json!([]), "no object"),
        (json!({ "messages": [user()] }), "the model is missing"),
        (with("model", json!("")), "the model is missing"),
        (with("temperature", json!(0.7)), ""),
        (with("temperature", json!(3)), "temperature cannot be 3"),
        (with("temperature", Value::Null), "temperature cannot be null"),
        (with("top_k", json!(5)), ""),
        (with("function_call", json!("none")), "function_call is unknown"),
        (with("seed", json!(1.5)), "seed cannot be 1.5"),
        (with("max_tokens", json!(0)), "max_tokens cannot be 0"),
        (with("stop", json!([])), "stop cannot be []"),
        (with("stop", json!(["x"])), ""),
        (with("n", json!(2)), "n cannot be 2"),
        (with("stream", json!("yes")), "stream cannot be"),
        (with("stream_options", json!({ "include_usage": true })), "stream_options cannot be"),
        (json!({ "model": "m", "messages": [user()], "tool_choice": "auto" }), "tool_choice cannot be"),
        (with("tools", json!([])), "tools is no list, or empty"),
        (with("tools", Value::Null), "tools cannot be null"),
        (with("tools", json!([{ "type": "f" }])), "a tool's type is not function"),
        (with("tools", json!([{ "type": "function" }])), "a tool has no function"),
        (with("tools", function(json!({ "name": "a b" }))), "no valid name"),
        (with("tools", function(json!({ "name": "f", "argument": 1 }))), "the field argument"),
        (with("tools", parameters(json!({}))), "their type is not object"),
        (with("tools", parameters(json!({ "type": "object", "properties": { "x": 1 } }))), "x is no object"),
        (with("tools", parameters(json!({ "type": "object", "required": ["y"] }))), "\"y\" is no property"),
        (
            with(
                "tools",
                json!([{ "type": "function", "function": { "name": "f" } },
                       { "type": "function", "function": { "name": "f" } }]),
            ),
            "the tool f is defined twice",
        ),
    ];
    for (body, expected) in table {
        check_reason(&body, expected);
    }
}

#[test]
fn keys_sessions_and_models() {
    let spec = |key: Option<&str>, session_headers: &[&str], model: Option<&str>| ModelServerSpec {
        key: key.map(str::to_owned),
        session_headers: session_headers.iter().map(ToString::to_string).collect(),
        model: model.map(str::to_owned),
        ..ModelServerSpec::default()
    };
    let both = ["X-A", "X-B"];
    let table = [
        (spec(Some("k"), &[], None), headers(&[("authorization", "Bearer k")]), 200),
        (spec(Some("k"), &[], None), headers(&[("authorization", "Bearer l")]), 401),
        (spec(Some("k"), &[], None), headers(&[]), 401),
        (spec(None, &[], None), headers(&[("authorization", "Bearer k")]), 400),
        (spec(None, &both, None), headers(&[("x-a", "s"), ("x-b", "s")]), 200),
        (spec(None, &both, None), headers(&[("x-a", "s"), ("x-b", "t")]), 400),
        (spec(None, &both, None), headers(&[("x-a", "s")]), 400),
        (spec(None, &[], Some("m")), headers(&[]), 200),
        (spec(None, &[], Some("other")), headers(&[]), 404),
        (spec(None, &[], None), BTreeMap::new(), 400),
    ];
    for (spec, headers, expected) in table {
        let body = talk(json!([user()])).to_string();
        let status =
            request(&spec, &headers, body.as_bytes()).map_or_else(|refusal| refusal.status.as_u16(), |_| 200);
        assert_eq!(status, expected, "{spec:?} {headers:?}");
    }
}
