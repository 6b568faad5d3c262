//! Recorded replies in place of an endpoint, for runs without a model.
//!
//! A recording is a JSONL file, one reply per line:
//!
//! ```json
//! {"instance_id": "demo__sum-1", "step": 0, "reply": {"content": "Looking.", "tool_calls": [{"name": "search", "arguments": {"search_term": "sum"}}]}}
//! {"instance_id": "demo__sum-1", "sample": 1, "step": 1, "repeat": true, "reply": {"content": "I cannot do this."}}
//! ```
//!
//! A line with `sample` is for that sample only and goes before those without. `repeat` makes a line answer the
//! later steps too, up to the next line of the same instance and sample. Empty lines and lines that start with `#`
//! are skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use thresher_core::run_spec::PriceSpec;
use tokio_util::sync::CancellationToken;

use super::reply::{self, Body};
use super::{ChatReply, ChatRequest, Llm, LlmError, LlmSetupError, price};

/// How many instances an error names.
const NAMED_INSTANCES: usize = 5;

/// The replies of one file.
pub(super) struct Replay {
    model: String,
    price: Option<PriceSpec>,
    /// By instance; then by sample, `None` being every sample; then by step.
    replies: BTreeMap<String, BTreeMap<Option<u32>, Steps>>,
}

type Steps = BTreeMap<u32, Recorded>;

/// One reply; its ids for calls without one are made when the step is known.
struct Recorded {
    completion: Value,
    repeat: bool,
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    instance_id: String,
    #[serde(default)]
    sample: Option<u32>,
    step: u32,
    #[serde(default)]
    repeat: bool,
    reply: RecordedReply,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedReply {
    #[serde(default)]
    content: String,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    usage: Option<Value>,
}

impl RecordedReply {
    /// The completion object that an endpoint would have sent.
    fn completion(self, model: &str) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.content });
        if let Some(reasoning) = self.reasoning {
            message["reasoning_content"] = Value::String(reasoning);
        }
        let finish = if self.tool_calls.is_empty() { "stop" } else { "tool_calls" };
        if !self.tool_calls.is_empty() {
            message["tool_calls"] = Value::Array(self.tool_calls);
        }
        let finish = self.finish_reason.unwrap_or_else(|| finish.to_owned());
        let mut completion = json!({
            "object": "chat.completion",
            "model": model,
            "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        });
        if let Some(usage) = self.usage {
            completion["usage"] = usage;
        }
        completion
    }
}

impl Replay {
    /// Reads the whole file and checks every line.
    pub(super) fn load(path: &Path, model: &str, price: Option<PriceSpec>) -> Result<Self, LlmSetupError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LlmSetupError::ReplayRead { path: path.to_owned(), source })?;
        let mut replay = Self { model: model.to_owned(), price, replies: BTreeMap::new() };
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            replay.add(line).map_err(|reason| line_error(path.to_owned(), at + 1, reason))?;
        }
        if replay.replies.is_empty() {
            return Err(line_error(path.to_owned(), 1, "the file holds no reply".to_owned()));
        }
        Ok(replay)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let recorded = Recorded { completion: line.reply.completion(&self.model), repeat: line.repeat };
        reply::decode(&recorded.completion, line.step)?;
        let steps = self.replies.entry(line.instance_id).or_default().entry(line.sample).or_default();
        if steps.insert(line.step, recorded).is_some() {
            return Err(format!("step {} of this instance and sample is recorded twice", line.step));
        }
        Ok(())
    }

    /// Finds the reply, or says what the recording has instead.
    fn find(&self, request: &ChatRequest<'_>) -> Result<&Recorded, String> {
        let samples = self.replies.get(request.instance_id).ok_or_else(|| self.unknown_instance(request))?;
        let own = samples.get(&Some(request.sample));
        let shared = samples.get(&None);
        [own, shared]
            .into_iter()
            .flatten()
            .find_map(|steps| at_step(steps, request.step))
            .ok_or_else(|| unknown_step(request, own, shared))
    }

    fn unknown_instance(&self, request: &ChatRequest<'_>) -> String {
        let named: Vec<_> = self.replies.keys().take(NAMED_INSTANCES).map(String::as_str).collect();
        let more = match self.replies.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "no reply is recorded for {}; there are replies for {}{more}",
            request.instance_id,
            named.join(", ")
        )
    }
}

/// The step's reply, or an earlier one that repeats up to here.
fn at_step(steps: &Steps, step: u32) -> Option<&Recorded> {
    let (at, recorded) = steps.range(..=step).next_back()?;
    (*at == step || recorded.repeat).then_some(recorded)
}

fn unknown_step(request: &ChatRequest<'_>, own: Option<&Steps>, shared: Option<&Steps>) -> String {
    let steps: std::collections::BTreeSet<_> =
        [own, shared].into_iter().flatten().flat_map(Steps::keys).collect();
    let there = match steps.iter().map(ToString::to_string).collect::<Vec<_>>() {
        none if none.is_empty() => "no step for this sample".to_owned(),
        steps => format!("the steps {}", steps.join(", ")),
    };
    let ChatRequest { instance_id, sample, step, .. } = request;
    format!("no reply is recorded for {instance_id}, sample {sample}, step {step}; the recording has {there}")
}

fn line_error(path: PathBuf, line: usize, reason: String) -> LlmSetupError {
    LlmSetupError::ReplayLine { path, line, reason }
}

#[async_trait]
impl Llm for Replay {
    async fn chat(
        &self,
        request: ChatRequest<'_>,
        cancel: &CancellationToken,
    ) -> Result<ChatReply, LlmError> {
        if cancel.is_cancelled() {
            return Err(LlmError::Cancelled);
        }
        let completion = &self.find(&request).map_err(LlmError::Refused)?.completion;
        match reply::decode(completion, request.step) {
            Ok(Body::Reply(reply)) => {
                let cost_usd = self.price.as_ref().map(|price| price::cost_usd(price, &reply.usage));
                Ok(ChatReply { raw: completion.to_string(), tries: 1, cost_usd, ..*reply })
            }
            Ok(Body::Filtered) => Err(LlmError::Refused("the recorded reply was filtered".to_owned())),
            Ok(Body::Error(error)) => Err(LlmError::Refused(error.to_string())),
            Err(reason) => Err(LlmError::Refused(reason)),
        }
    }

    fn provider(&self) -> String {
        "replay".to_owned()
    }

    fn model(&self) -> &str {
        &self.model
    }
}

#[cfg(test)]
mod tests;
