//! From a reply to bytes, whole or as a stream, and the ways to cut them short.

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::log::OpenExchange;
use super::{Reply, Turn};

/// Bytes of a piece of a whole body, and characters of a piece of streamed text: small and odd, so that pieces end
/// inside of words, of escapes and of characters.
const PIECE: usize = 7;

/// The body's pieces: events of a stream, or parts of one JSON text.
pub(super) fn pieces(turn: &Turn, reply: &Reply) -> Vec<Bytes> {
    if turn.streamed() {
        return events(turn, reply);
    }
    let text = completion(turn, reply).to_string();
    text.as_bytes().chunks(PIECE * 9).map(Bytes::copy_from_slice).collect()
}

/// All pieces.
pub(super) fn whole(open: OpenExchange, pieces: Vec<Bytes>) -> Body {
    body(open, pieces, stream::empty())
}

/// Some pieces, then an orderly end.
pub(super) fn short(open: OpenExchange, mut pieces: Vec<Bytes>, after: usize) -> Body {
    pieces.truncate(after);
    body(open, pieces, stream::empty())
}

/// Some events and then an error, or only the error where the reply comes at once.
pub(super) fn broken_by_error(
    open: OpenExchange,
    turn: &Turn,
    mut pieces: Vec<Bytes>,
    after: usize,
    error: &str,
) -> Body {
    pieces.truncate(if turn.streamed() { after } else { 0 });
    let object = format!("{{\"error\": {error}}}");
    pieces.push(if turn.streamed() { format!("data: {object}\n\n").into() } else { object.into() });
    body(open, pieces, stream::empty())
}

/// Some pieces, then a broken connection.
pub(super) fn torn(open: OpenExchange, mut pieces: Vec<Bytes>, after: usize) -> Body {
    pieces.truncate(after);
    // The server sends what it has when it must wait, and not when the error follows at once.
    let pause = stream::once(tokio::task::yield_now()).filter_map(|()| async { None });
    let end = stream::once(async { Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
    body(open, pieces, pause.chain(end))
}

/// Some pieces, then nothing until the caller goes away.
pub(super) fn stalled(open: OpenExchange, mut pieces: Vec<Bytes>, after: usize) -> Body {
    pieces.truncate(after);
    body(open, pieces, stream::pending())
}

/// The pieces, then `end`. The exchange is closed after both, or dropped with the body.
fn body(
    open: OpenExchange,
    pieces: Vec<Bytes>,
    end: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Body {
    // An error ends the body at once, so the exchange is closed before the last item is handed out.
    let mut open = Some(open);
    let end = end.map(Some).chain(stream::iter([None]));
    let items = stream::iter(pieces).map(|piece| Some(Ok(piece))).chain(end);
    Body::from_stream(items.filter_map(move |item| {
        if !matches!(item, Some(Ok(_))) {
            open.take().into_iter().for_each(OpenExchange::close);
        }
        std::future::ready(item)
    }))
}

/// The completion object.
fn completion(turn: &Turn, reply: &Reply) -> Value {
    let mut message = json!({ "role": "assistant", "content": content(reply) });
    if let Some(reasoning) = &reply.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !reply.calls.is_empty() {
        let calls = reply.calls.iter().enumerate();
        message["tool_calls"] =
            calls.map(|(at, (name, arguments))| call(turn, at, name, arguments)).collect();
    }
    let choice = json!({ "index": 0, "message": message, "finish_reason": finish_reason(reply) });
    let mut completion = head(turn, "chat.completion");
    completion["choices"] = json!([choice]);
    completion["usage"] = usage(turn, reply);
    completion
}

/// The events of a stream with the same content.
fn events(turn: &Turn, reply: &Reply) -> Vec<Bytes> {
    let mut deltas = vec![json!({ "role": "assistant", "content": "" })];
    let reasoning = reply.reasoning.iter().flat_map(|text| parts(text));
    deltas.extend(reasoning.map(|part| json!({ "reasoning_content": part })));
    deltas.extend(parts(&reply.content).map(|part| json!({ "content": part })));
    for (at, (name, arguments)) in reply.calls.iter().enumerate() {
        let mut first = call(turn, at, name, "");
        first["index"] = json!(at);
        deltas.push(json!({ "tool_calls": [first] }));
        let piece = |part| json!({ "tool_calls": [{ "index": at, "function": { "arguments": part } }] });
        deltas.extend(parts(arguments).map(piece));
    }
    let mut chunks: Vec<_> = deltas.into_iter().map(|delta| chunk(turn, delta, Value::Null)).collect();
    chunks.push(chunk(turn, json!({}), json!(finish_reason(reply))));
    if turn.wants_usage() {
        let mut last = head(turn, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage(turn, reply);
        chunks.push(last);
    }
    let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).map(Bytes::from).collect()
}

fn chunk(turn: &Turn, delta: Value, finish_reason: Value) -> Value {
    let mut chunk = head(turn, "chat.completion.chunk");
    chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": finish_reason }]);
    chunk
}

fn head(turn: &Turn, object: &str) -> Value {
    json!({ "id": format!("chatcmpl-{}", turn.step), "object": object, "created": 1, "model": turn.body["model"] })
}

fn call(turn: &Turn, at: usize, name: &str, arguments: &str) -> Value {
    let function = json!({ "name": name, "arguments": arguments });
    json!({ "id": format!("call_s{}_{at}", turn.step), "type": "function", "function": function })
}

fn content(reply: &Reply) -> Value {
    if reply.content.is_empty() && !reply.calls.is_empty() { Value::Null } else { json!(reply.content) }
}

fn finish_reason(reply: &Reply) -> &str {
    let usual = if reply.calls.is_empty() { "stop" } else { "tool_calls" };
    reply.finish_reason.as_deref().unwrap_or(usual)
}

/// About four bytes make a token.
fn usage(turn: &Turn, reply: &Reply) -> Value {
    let made = || {
        let prompt = turn.body["messages"].to_string().len() / 4 + 1;
        let arguments: usize = reply.calls.iter().map(|(name, arguments)| name.len() + arguments.len()).sum();
        let completion = (reply.content.len() + arguments) / 4 + 1;
        json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
    };
    reply.usage.clone().unwrap_or_else(made)
}

fn parts(text: &str) -> impl Iterator<Item = String> {
    let characters: Vec<_> = text.chars().collect();
    let parts: Vec<_> = characters.chunks(PIECE).map(|part| part.iter().collect()).collect();
    parts.into_iter()
}
