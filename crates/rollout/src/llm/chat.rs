//! The conversation and the reply, as agents see them.

use std::time::Duration;

use async_trait::async_trait;
use thresher_core::trajectory::{ToolCall, Usage};
use tokio_util::sync::CancellationToken;

use super::LlmError;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The rules of the game.
    System,
    /// The task, and what text-mode tools observed.
    User,
    /// The model.
    Assistant,
    /// The answer to one tool call.
    Tool,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; may be empty where an assistant only calls tools.
    pub content: String,
    /// An assistant's native calls.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
    /// The tool's name, for endpoints that want it.
    pub name: Option<String>,
}

impl Message {
    /// Makes a system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self::text(Role::System, content)
    }

    /// Makes a user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::text(Role::User, content)
    }

    /// Makes an assistant message; `tool_calls` is empty in text mode.
    pub fn assistant(content: impl Into<String>, tool_calls: Vec<ToolCall>) -> Self {
        Self { tool_calls, ..Self::text(Role::Assistant, content) }
    }

    /// Makes the answer to `call`.
    pub fn tool(call: &ToolCall, content: impl Into<String>) -> Self {
        Self {
            tool_call_id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            ..Self::text(Role::Tool, content)
        }
    }

    fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// One query.
#[derive(Clone, Copy, Debug)]
pub struct ChatRequest<'a> {
    /// The whole conversation so far.
    pub messages: &'a [Message],
    /// A JSON array of OpenAI tool definitions; `None` in text mode.
    pub tools: Option<&'a serde_json::Value>,
    /// The rollout's id, which session headers carry.
    pub session: &'a str,
    /// The rollout's sample number, added to the seed.
    pub sample: u32,
    /// The trajectory's step, from 0.
    pub step: u32,
    /// The task, by which recorded replies are found.
    pub instance_id: &'a str,
    /// Time for the whole query, with its retries and pauses and with waiting for a free slot.
    pub timeout: Duration,
}

/// A whole reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatReply {
    /// The assistant's text; may be empty.
    pub content: String,
    /// Reasoning that came apart from the text.
    pub reasoning: Option<String>,
    /// Native calls. Ids are never empty and differ within one reply; absent arguments become `{}`.
    pub tool_calls: Vec<ToolCall>,
    /// Why the model stopped, in the endpoint's word.
    pub finish_reason: Option<String>,
    /// Tokens, as far as the endpoint reported them.
    pub usage: Usage,
    /// Cost in US dollars, where the spec has prices.
    pub cost_usd: Option<f64>,
    /// The body as received; for a stream, the response object that its pieces make.
    pub raw: String,
    /// Tries that it took, at least 1.
    pub tries: u32,
    /// From sending the try that succeeded to its last byte. Failed tries, pauses and queueing are not in it.
    pub latency: Duration,
    /// From sending that try to the first byte of the reply's body.
    pub first_byte: Duration,
}

/// A model that can be asked.
#[async_trait]
pub trait Llm: Send + Sync {
    /// Asks for the next message of a conversation.
    ///
    /// # Errors
    /// See [`LlmError`]; retries are over when it is returned.
    async fn chat(&self, request: ChatRequest<'_>, cancel: &CancellationToken)
    -> Result<ChatReply, LlmError>;

    /// Where the model is served, for the record: the endpoint's host, or `replay`.
    fn provider(&self) -> String;

    /// The model's name, as the endpoint knows it.
    fn model(&self) -> &str;
}
