//! A rollout's conversation in OpenAI chat form.

use serde_json::{Map, Value, json};
use thresher_core::RolloutRecord;
use thresher_core::trajectory::{Observation, Step, ToolCall, ToolMode};

/// The `messages` column: a JSON list of chat messages, or `None` where no model was asked.
///
/// Calls travel as the agent's tool mode has it: in native mode as `tool_calls` with `tool` replies, in text mode
/// within the assistant's content with `user` replies. Arguments stay the raw text that the model gave.
pub(super) fn messages(record: &RolloutRecord) -> Option<String> {
    let policy = &record.policy;
    if policy.system_prompt.is_empty() && policy.task_prompt.is_empty() && record.steps.is_empty() {
        return None;
    }
    let mut messages = Vec::new();
    if !policy.system_prompt.is_empty() {
        messages.push(message("system", &policy.system_prompt));
    }
    if !policy.task_prompt.is_empty() {
        messages.push(message("user", &policy.task_prompt));
    }
    for step in &record.steps {
        turn(policy.tool_mode, step, &mut messages);
    }
    Some(Value::Array(messages).to_string())
}

fn turn(mode: ToolMode, step: &Step, messages: &mut Vec<Value>) {
    messages.extend(step.user_message.as_deref().map(|text| message("user", text)));
    messages.push(assistant(mode, step));
    messages.extend(step.observations.iter().map(|seen| observation(mode, seen)));
}

fn assistant(mode: ToolMode, step: &Step) -> Value {
    let mut fields = Map::new();
    fields.insert("role".into(), "assistant".into());
    fields.insert("content".into(), step.content.as_str().into());
    if let Some(reasoning) = &step.reasoning {
        fields.insert("reasoning_content".into(), reasoning.as_str().into());
    }
    if mode == ToolMode::Native && !step.tool_calls.is_empty() {
        fields.insert("tool_calls".into(), step.tool_calls.iter().map(call).collect());
    }
    Value::Object(fields)
}

fn call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": call.arguments },
    })
}

fn observation(mode: ToolMode, seen: &Observation) -> Value {
    if mode == ToolMode::Native && !seen.tool_call_id.is_empty() {
        return json!({
            "role": "tool", "tool_call_id": seen.tool_call_id, "name": seen.name, "content": seen.content,
        });
    }
    message("user", &seen.content)
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}
