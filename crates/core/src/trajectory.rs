//! The ordered steps of one rollout.

use serde::{Deserialize, Serialize};

/// How the agent's calls travel: as native tool calls, or as XML inside the reply's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolMode {
    /// OpenAI-style function calling.
    Native,
    /// `<function=…><parameter=…>` text, as R2E-Gym's own models are trained on.
    XmlText,
}

impl ToolMode {
    /// The word that the `tool_mode` column holds.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::XmlText => "xml_text",
        }
    }
}

/// One tool call, as the model made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id, given by the model in native mode and by the runner in text mode.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments as raw JSON text, exactly as received (native) or as parsed (text).
    pub arguments: String,
    /// Whether `arguments` is a JSON object.
    pub arguments_valid: bool,
}

/// What came back from one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The call that it answers; empty where there was none.
    pub tool_call_id: String,
    /// The tool's name; empty where there was none.
    pub name: String,
    /// What the model is shown.
    pub content: String,
    /// Whether the tool refused or failed.
    pub is_error: bool,
    /// Exit code of the command, if one ran to its end.
    pub exit_code: Option<i32>,
    /// Bytes left out of `content`.
    pub truncated_bytes: u64,
    /// How long the tool took, in milliseconds.
    pub duration_ms: u64,
}

/// Token counts as the provider reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the reply.
    pub completion_tokens: u64,
    /// Prompt tokens that a cache served.
    pub cached_tokens: u64,
    /// Reply tokens spent on reasoning.
    pub reasoning_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
    }
}

/// One turn: what the model said, what was done, what came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Position in the trajectory, from 0.
    pub index: u32,
    /// Text put in front of the model before this step, besides observations (reminders).
    pub user_message: Option<String>,
    /// Reasoning that the provider returned apart from the content.
    pub reasoning: Option<String>,
    /// The assistant's text exactly as emitted; may be empty.
    pub content: String,
    /// The body of the model's reply as received, or its re-assembled form where it was streamed.
    pub raw_reply: String,
    /// The calls in it.
    pub tool_calls: Vec<ToolCall>,
    /// What came back.
    pub observations: Vec<Observation>,
    /// Why the model stopped (`stop`, `length`, `tool_calls`, …).
    pub finish_reason: Option<String>,
    /// The parser's complaint; `None` where the reply held a valid call.
    pub format_error: Option<String>,
    /// Tokens of this step's calls.
    pub usage: Usage,
    /// Cost in US dollars, where prices are known.
    pub cost_usd: Option<f64>,
    /// Start, in microseconds since the epoch, UTC.
    pub started_at_us: i64,
    /// Milliseconds spent waiting for the model.
    pub llm_ms: u64,
    /// Milliseconds spent in tools.
    pub env_ms: u64,
}
