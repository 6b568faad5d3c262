//! From the chunks of a stream to the completion object that they make.

use serde_json::{Map, Value, json};

/// A chunk that cannot be part of a reply.
#[derive(Debug, PartialEq)]
pub(super) enum ChunkError {
    /// The endpoint sent an error object.
    Error(Value),
    /// The chunk is no JSON object, or not shaped like a chunk.
    Garbage(String),
}

/// The completion so far.
#[derive(Default)]
pub(super) struct Assembly {
    /// Everything of the chunks besides their choices: id, model, usage.
    head: Map<String, Value>,
    message: Map<String, Value>,
    calls: Vec<Call>,
    /// Everything of the choice besides its delta: finish reason, log probabilities.
    choice: Map<String, Value>,
    done: bool,
}

/// A call so far.
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Assembly {
    /// Adds the data of one event.
    pub(super) fn push(&mut self, data: &str) -> Result<(), ChunkError> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|error| ChunkError::Garbage(error.to_string()))?;
        let Value::Object(mut chunk) = chunk else {
            return Err(ChunkError::Garbage("a chunk is no object".to_owned()));
        };
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            return Err(ChunkError::Error(error));
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            // Only one choice is ever asked for.
            choices.into_iter().take(1).for_each(|choice| self.add_choice(choice));
        }
        replace_all(&mut self.head, chunk);
        Ok(())
    }

    /// Whether the end mark has come.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The completion object; `None` where the stream ended too early. Some servers send no end mark, so a finish
    /// reason is enough.
    pub(super) fn finish(mut self) -> Option<Value> {
        let finished = self.choice.get("finish_reason").is_some_and(Value::is_string);
        if !self.done && !finished {
            return None;
        }
        if !self.calls.is_empty() {
            let calls = self.calls.into_iter().map(Call::into_value).collect();
            self.message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        let mut choice = Map::from_iter([
            ("index".to_owned(), json!(0)),
            ("message".to_owned(), Value::Object(self.message)),
        ]);
        replace_all(&mut choice, self.choice);
        let usage = self.head.remove("usage");
        let mut completion = self.head;
        completion.insert("object".to_owned(), json!("chat.completion"));
        completion.insert("choices".to_owned(), json!([choice]));
        if let Some(usage) = usage {
            completion.insert("usage".to_owned(), usage);
        }
        Some(Value::Object(completion))
    }

    fn add_choice(&mut self, choice: Value) {
        let Value::Object(mut choice) = choice else { return };
        if let Some(Value::Object(delta)) = choice.remove("delta") {
            self.add_delta(delta);
        }
        if let Some(logprobs) = choice.remove("logprobs") {
            extend_lists(self.choice.entry("logprobs").or_insert(Value::Null), logprobs);
        }
        choice.remove("index");
        replace_all(&mut self.choice, choice);
    }

    fn add_delta(&mut self, delta: Map<String, Value>) {
        for (field, value) in delta {
            match (field.as_str(), value) {
                (_, Value::Null) => {}
                ("tool_calls", Value::Array(calls)) => calls.iter().for_each(|call| self.add_call(call)),
                ("role", role) => drop(self.message.insert(field, role)),
                (_, Value::String(text)) => append(&mut self.message, field, text),
                (_, value) => drop(self.message.insert(field, value)),
            }
        }
    }

    fn add_call(&mut self, delta: &Value) {
        let text = |path: &str| delta.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let call = self.call_of(delta.get("index").and_then(Value::as_u64), text("/id"));
        let name = text("/function/name");
        // Some servers repeat the whole name with every piece.
        if call.name != name {
            call.name.push_str(name);
        }
        call.arguments.push_str(text("/function/arguments"));
        // A few send the arguments as an object, in one piece.
        if let Some(object) = delta.pointer("/function/arguments").filter(|value| value.is_object()) {
            call.arguments = object.to_string();
        }
    }

    /// The call that a piece belongs to. Usually its index says so; some servers leave the index out, and some
    /// give parallel calls the same index and different ids.
    fn call_of(&mut self, index: Option<u64>, id: &str) -> &mut Call {
        let at = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let at = at.filter(|at| id.is_empty() || self.calls[*at].id.is_empty() || self.calls[*at].id == id);
        let at = at.unwrap_or_else(|| {
            self.calls.push(Call { index, id: String::new(), name: String::new(), arguments: String::new() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        call
    }
}

impl Call {
    fn into_value(self) -> Value {
        let function = json!({ "name": self.name, "arguments": self.arguments });
        json!({ "id": self.id, "type": "function", "function": function })
    }
}

/// Replaces the fields that have a value: the last one counts, and null never erases one.
fn replace_all(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (field, value) in from {
        if !value.is_null() {
            into.insert(field, value);
        }
    }
}

fn append(message: &mut Map<String, Value>, field: String, text: String) {
    match message.get_mut(&field) {
        Some(Value::String(so_far)) => so_far.push_str(&text),
        _ => drop(message.insert(field, Value::String(text))),
    }
}

/// Extends the lists of `so_far` by those of `next`, field by field (log probabilities come so).
fn extend_lists(so_far: &mut Value, next: Value) {
    match (so_far, next) {
        (_, Value::Null) => {}
        (Value::Array(list), Value::Array(more)) => list.extend(more),
        (Value::Object(fields), Value::Object(more)) => {
            for (field, value) in more {
                extend_lists(fields.entry(field).or_insert(Value::Null), value);
            }
        }
        (so_far, next) => *so_far = next,
    }
}

#[cfg(test)]
mod tests;
