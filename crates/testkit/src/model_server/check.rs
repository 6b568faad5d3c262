//! Which requests are well-formed: everything that some real endpoint refuses is refused here.

mod message;
mod tools;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::ModelServerSpec;

/// Fields that endpoints commonly know, besides those checked below.
const FURTHER_FIELDS: [&str; 8] = [
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "top_k",
    "min_p",
    "logprobs",
    "reasoning_effort",
    "chat_template_kwargs",
];

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", reason: reason.into() }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::bad_request(reason)
    }
}

/// Checks a whole request and returns its body.
pub(super) fn request(
    spec: &ModelServerSpec,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Value, Refusal> {
    key(spec, headers)?;
    session(spec, headers)?;
    if headers.get("content-type").map(String::as_str) != Some("application/json") {
        return Err(Refusal::bad_request("the content type is not application/json"));
    }
    let body: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("no JSON: {error}")))?;
    let fields = body.as_object().ok_or_else(|| Refusal::bad_request("the body is no object"))?;
    model(spec, fields)?;
    parameters(spec, fields)?;
    let tools = tools::check(fields)?;
    message::conversation(fields, tools.as_deref())?;
    Ok(body)
}

fn key(spec: &ModelServerSpec, headers: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let unauthorized =
        |reason: String| Refusal { status: StatusCode::UNAUTHORIZED, kind: "invalid_api_key", reason };
    match (&spec.key, headers.get("authorization")) {
        (None, None) => Ok(()),
        (Some(key), Some(sent)) if *sent == format!("Bearer {key}") => Ok(()),
        (None, Some(_)) => Err(Refusal::bad_request("a key was sent although none is configured")),
        (Some(_), None) => Err(unauthorized("no key was sent".to_owned())),
        // Some real endpoints do echo the key.
        (Some(_), Some(sent)) => Err(unauthorized(format!("incorrect api key provided: {sent}"))),
    }
}

fn session(spec: &ModelServerSpec, headers: &BTreeMap<String, String>) -> Result<(), String> {
    let mut ids = Vec::new();
    for name in &spec.session_headers {
        let id = headers.get(&name.to_lowercase()).filter(|id| !id.is_empty());
        ids.push(id.ok_or_else(|| format!("the session header {name} is missing"))?);
    }
    ids.dedup();
    if ids.len() > 1 { Err("the session headers disagree".to_owned()) } else { Ok(()) }
}

fn model(spec: &ModelServerSpec, fields: &Map<String, Value>) -> Result<(), Refusal> {
    let model = fields.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Refusal::bad_request("the model is missing"))?;
    match &spec.model {
        Some(known) if known != model => Err(Refusal {
            status: StatusCode::NOT_FOUND,
            kind: "model_not_found",
            reason: format!("there is no model {model}"),
        }),
        _ => Ok(()),
    }
}

fn parameters(spec: &ModelServerSpec, fields: &Map<String, Value>) -> Result<(), String> {
    for (field, value) in fields {
        if spec.extra_fields.contains(field) || FURTHER_FIELDS.contains(&field.as_str()) {
            continue;
        }
        let fine = match field.as_str() {
            "model" | "messages" | "tools" => true,
            "temperature" => within(value, 0.0, 2.0),
            "top_p" => within(value, 0.0, 1.0),
            "seed" => value.is_i64(),
            "max_tokens" | "max_completion_tokens" => value.as_u64().is_some_and(|tokens| tokens > 0),
            "stop" => is_stop(value),
            "n" => value == 1,
            "stream" => value.is_boolean(),
            "stream_options" => value.is_object() && fields.get("stream") == Some(&Value::Bool(true)),
            "tool_choice" => fields.contains_key("tools"),
            _ => return Err(format!("the field {field} is unknown")),
        };
        if !fine || value.is_null() {
            return Err(format!("the field {field} cannot be {value} here"));
        }
    }
    Ok(())
}

fn within(value: &Value, least: f64, most: f64) -> bool {
    value.as_f64().is_some_and(|number| (least..=most).contains(&number))
}

fn is_stop(value: &Value) -> bool {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_list = |values: &Vec<Value>| !values.is_empty() && values.iter().all(is_text);
    is_text(value) || value.as_array().is_some_and(is_list)
}

/// A non-empty string field.
fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    fields.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// Refuses fields other than `known`, and nulls.
fn only(what: &str, fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.iter().find(|(field, value)| !known.contains(&field.as_str()) || value.is_null()) {
        Some((field, value)) => Err(format!("{what} has the field {field} with the value {value}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
