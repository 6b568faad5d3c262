//! Conversations: roles, their order, and calls with their answers.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{only, text};

/// What the messages so far ask of the next one.
#[derive(Default)]
struct Progress {
    /// Every id that a call had.
    ids: BTreeSet<String>,
    /// Calls that wait for their answer.
    open: BTreeSet<String>,
    last_role: String,
}

/// Checks the conversation; `tools` are the names of the defined tools.
pub(super) fn conversation(fields: &Map<String, Value>, tools: Option<&[String]>) -> Result<(), String> {
    let messages = fields.get("messages").and_then(Value::as_array);
    let messages = messages.filter(|messages| !messages.is_empty()).ok_or("there are no messages")?;
    let mut progress = Progress::default();
    for (at, message) in messages.iter().enumerate() {
        let message = message.as_object().ok_or_else(|| format!("message {at} is no object"))?;
        progress.add(message, tools).map_err(|reason| format!("message {at}: {reason}"))?;
    }
    progress.end()
}

impl Progress {
    fn add(&mut self, message: &Map<String, Value>, tools: Option<&[String]>) -> Result<(), String> {
        let role = text(message, "role").ok_or("there is no role")?;
        if role != "tool" && !self.open.is_empty() {
            return Err(format!("the calls {:?} have no answer", self.open));
        }
        match role {
            "system" if self.last_role.is_empty() => said(message)?,
            "system" => return Err("a system message may only come first".to_owned()),
            "user" => said(message)?,
            "assistant" if matches!(self.last_role.as_str(), "user" | "tool") => {
                self.assistant(message, tools)?;
            }
            "assistant" => return Err("an assistant message must follow a user's or a tool's".to_owned()),
            "tool" => self.answer(message)?,
            other => return Err(format!("the role {other} is unknown")),
        }
        role.clone_into(&mut self.last_role);
        Ok(())
    }

    fn assistant(&mut self, message: &Map<String, Value>, tools: Option<&[String]>) -> Result<(), String> {
        only("an assistant message", message, &["role", "content", "tool_calls"])?;
        if message.get("content").is_some_and(|content| !content.is_string()) {
            return Err("the content is no text".to_owned());
        }
        let Some(calls) = message.get("tool_calls") else {
            let content = text(message, "content").ok_or("there is neither content nor a call");
            return content.map(drop).map_err(str::to_owned);
        };
        let calls =
            calls.as_array().filter(|calls| !calls.is_empty()).ok_or("tool_calls is no list, or empty")?;
        calls.iter().try_for_each(|call| self.call(call, tools))
    }

    fn call(&mut self, call: &Value, tools: Option<&[String]>) -> Result<(), String> {
        let call = call.as_object().ok_or("a call is no object")?;
        only("a call", call, &["id", "type", "function"])?;
        let id = text(call, "id").ok_or("a call has no id")?;
        if text(call, "type") != Some("function") {
            return Err(format!("the type of the call {id} is not function"));
        }
        let function = call.get("function").and_then(Value::as_object).ok_or("a call has no function")?;
        only("a called function", function, &["name", "arguments"])?;
        let name = text(function, "name").ok_or("a call has no name")?;
        let tools = tools.ok_or_else(|| format!("{name} is called, but no tools are defined"))?;
        if !tools.iter().any(|tool| tool == name) {
            return Err(format!("{name} is called, but not defined"));
        }
        let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or_default();
        serde_json::from_str::<Map<String, Value>>(arguments)
            .map_err(|_| format!("the arguments of the call {id} are no JSON object: {arguments:?}"))?;
        if !self.ids.insert(id.to_owned()) {
            return Err(format!("the call id {id} was used before"));
        }
        self.open.insert(id.to_owned());
        Ok(())
    }

    fn answer(&mut self, message: &Map<String, Value>) -> Result<(), String> {
        only("a tool message", message, &["role", "content", "tool_call_id", "name"])?;
        if !message.get("content").is_some_and(Value::is_string) {
            return Err("the content is no text".to_owned());
        }
        let id = text(message, "tool_call_id").ok_or("a tool message names no call")?;
        if self.open.remove(id) { Ok(()) } else { Err(format!("no open call has the id {id}")) }
    }

    fn end(&self) -> Result<(), String> {
        if !self.open.is_empty() {
            return Err(format!("the calls {:?} have no answer", self.open));
        }
        match self.last_role.as_str() {
            "user" | "tool" => Ok(()),
            other => Err(format!("the conversation ends with a message of the {other}")),
        }
    }
}

/// A system or user message.
fn said(message: &Map<String, Value>) -> Result<(), String> {
    only("a message", message, &["role", "content", "name"])?;
    text(message, "content").map(drop).ok_or_else(|| "the content is no text, or empty".to_owned())
}
