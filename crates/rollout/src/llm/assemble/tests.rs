use super::*;

fn assemble(chunks: &[Value]) -> Option<Value> {
    let mut assembly = Assembly::default();
    for chunk in chunks {
        assembly.push(&chunk.to_string()).unwrap();
    }
    assembly.finish()
}

fn delta(delta: Value) -> Value {
    json!({ "id": "x", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": delta }] })
}

fn call(index: Value, id: Value, name: Value, arguments: Value) -> Value {
    let function = json!({ "name": name, "arguments": arguments });
    delta(json!({ "tool_calls": [{ "index": index, "id": id, "function": function }] }))
}

fn end(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

#[test]
fn a_stream_makes_the_object_that_would_have_come_at_once() {
    let chunks = [
        json!({ "id": "x", "model": "m", "object": "chat.completion.chunk", "usage": null,
                "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] }),
        delta(json!({ "reasoning_content": "h" })),
        delta(json!({ "reasoning_content": "m", "content": null })),
        delta(json!({ "content": "Hel" })),
        delta(json!({ "content": "lo" })),
        end("stop"),
        json!({ "id": "x", "choices": [], "usage": { "prompt_tokens": 3 } }),
    ];
    let expected = json!({
        "id": "x", "model": "m", "object": "chat.completion",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": "Hello", "reasoning_content": "hm" },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 3 },
    });
    assert_eq!(assemble(&chunks), Some(expected));
}

#[test]
fn pieces_of_calls_find_their_call() {
    let null = Value::Null;
    let usual = [
        call(json!(0), json!("a"), json!("f"), json!("")),
        call(json!(0), null.clone(), null.clone(), json!("{\"x\":")),
        call(json!(1), json!("b"), json!("g"), json!("{")),
        call(json!(0), null.clone(), null.clone(), json!(" 1}")),
        call(json!(1), null.clone(), null.clone(), json!("}")),
    ];
    let without_index = [
        call(null.clone(), json!("a"), json!("f"), json!("{\"x\":")),
        call(null.clone(), null.clone(), null.clone(), json!(" 1}")),
        call(null.clone(), json!("b"), json!("g"), json!("{}")),
    ];
    let same_index = [
        call(json!(0), json!("a"), json!("f"), json!("{\"x\": 1}")),
        call(json!(0), json!("b"), json!("g"), json!("{}")),
    ];
    let repeating = [
        call(json!(0), json!("a"), json!("f"), json!("{\"x\":")),
        call(json!(0), json!("a"), json!("f"), json!(" 1}")),
        call(json!(1), json!("b"), json!("g"), json!("{}")),
    ];
    for chunks in [&usual[..], &without_index, &same_index, &repeating] {
        let completion = assemble(&[chunks, &[end("tool_calls")]].concat()).unwrap();
        let expected = json!([
            { "id": "a", "type": "function", "function": { "name": "f", "arguments": "{\"x\": 1}" } },
            { "id": "b", "type": "function", "function": { "name": "g", "arguments": "{}" } },
        ]);
        assert_eq!(completion["choices"][0]["message"]["tool_calls"], expected, "{chunks:?}");
    }
}

#[test]
fn an_object_of_arguments_and_log_probabilities_survive() {
    let logprobs = |token: &str| json!({ "choices": [{ "delta": { "content": token }, "logprobs": { "content": [{ "token": token }] } }] });
    let chunks = [
        logprobs("a"),
        logprobs("b"),
        call(json!(0), json!("a"), json!("f"), json!({ "x": 1 })),
        end("stop"),
    ];
    let completion = assemble(&chunks).unwrap();
    let choice = &completion["choices"][0];
    assert_eq!(choice["logprobs"]["content"], json!([{ "token": "a" }, { "token": "b" }]));
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
}

#[test]
fn a_stream_without_an_end_is_no_reply() {
    assert_eq!(assemble(&[delta(json!({ "content": "Hel" }))]), None);
    assert_eq!(assemble(&[]), None);
    let mut assembly = Assembly::default();
    assembly.push(&delta(json!({ "content": "Hel" })).to_string()).unwrap();
    assembly.push("[DONE]").unwrap();
    assert!(assembly.is_done() && assembly.finish().is_some());
}

#[test]
fn what_is_no_chunk() {
    let error = |data: &str| Assembly::default().push(data).unwrap_err();
    assert_eq!(error(r#"{"error": {"code": 503}}"#), ChunkError::Error(json!({ "code": 503 })));
    assert!(matches!(error("{\"choices\": ["), ChunkError::Garbage(_)));
    assert!(matches!(error("[]"), ChunkError::Garbage(_)));
}
