//! R2E-Gym's editing agent: a loop of one model reply and one tool call, with scaffold `r2egym`.
//!
//! Behaviour follows the seed's agent (prompts' structure, tools, observations' form, order of the stop checks)
//! without its known faults: the raw reply stays in the history, unknown tools and malformed calls are answered, edits
//! keep every byte, commands are killed as a group at their deadline, and repetition and malformed replies are limited.

mod call;
mod limits;
mod prompts;
mod tools;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use thresher_core::trajectory::{Observation, Step, ToolCall, ToolMode};
use thresher_core::{StopReason, Task};

use self::call::{Reading, read_reply};
use self::limits::{Limits, Turn};
use self::tools::{Toolbox, Used};
use super::{Agent, AgentError, Episode, Prompts};
use crate::llm::{ChatReply, ChatRequest, Llm, LlmError, Message};

/// The agent. Everything that belongs to one rollout is in a `Conversation`.
pub(super) struct R2eGym {
    mode: ToolMode,
}

impl R2eGym {
    pub(super) fn new(mode: ToolMode) -> Self {
        Self { mode }
    }
}

#[async_trait]
impl Agent for R2eGym {
    fn version(&self) -> String {
        prompts::version(self.mode)
    }

    fn prompts(&self, task: &Task, workdir: &str) -> Prompts {
        prompts::render(self.mode, &task.problem_statement, workdir)
    }

    async fn run(&self, episode: &mut Episode<'_>) -> Result<StopReason, AgentError> {
        let Some(model) = episode.model.clone() else { return Ok(StopReason::Error) };
        let prompts = self.prompts(episode.task, &episode.workdir);
        let mut conversation = Conversation::new(self.mode, episode, prompts);
        loop {
            if let Some(stop) = conversation.turn(&*model, episode).await? {
                return Ok(stop);
            }
        }
    }
}

/// The state of one rollout.
struct Conversation {
    mode: ToolMode,
    messages: Vec<Message>,
    tools: Option<serde_json::Value>,
    toolbox: Toolbox,
    limits: Limits,
    index: u32,
}

impl Conversation {
    fn new(mode: ToolMode, episode: &Episode<'_>, prompts: Prompts) -> Self {
        let tools = prompts.tools.as_deref();
        Self {
            mode,
            messages: vec![Message::system(prompts.system), Message::user(prompts.task)],
            tools: tools
                .map(|text| serde_json::from_str(text).expect("the shipped tool definitions are JSON")),
            toolbox: Toolbox::new(episode),
            limits: Limits::new(episode.spec),
            index: 0,
        }
    }

    /// One turn. Returns why the agent stops, if it does.
    async fn turn(
        &mut self,
        model: &dyn Llm,
        episode: &mut Episode<'_>,
    ) -> Result<Option<StopReason>, AgentError> {
        let reminder = self.limits.reminder(self.index);
        let last = self.messages.last_mut().expect("a conversation starts with two messages");
        last.content.push('\n');
        last.content.push_str(&reminder);

        let started_at_us = episode.clock.now_us();
        let asked = Instant::now();
        let reply = match self.ask(model, episode).await {
            Ok(reply) => reply,
            Err(LlmError::Fault(fault)) => return Err(fault.into()),
            Err(LlmError::ContextOverflow(_)) => return Ok(Some(StopReason::ContextOverflow)),
            Err(LlmError::Cancelled) => return Ok(Some(StopReason::Cancelled)),
            Err(LlmError::Refused(reason)) => {
                tracing::info!(rollout = %episode.rollout, %reason, "the model refused the conversation");
                return Ok(Some(StopReason::ModelError));
            }
        };
        let llm = asked.elapsed();

        let acting = Instant::now();
        let reading = read_reply(self.mode, &reply, self.index);
        let used = self.act(&reading, episode).await?;
        let env = acting.elapsed();

        let step = Step {
            user_message: Some(reminder),
            started_at_us,
            llm_ms: millis(llm),
            env_ms: millis(env),
            ..self.step(&reply, &reading, &used)
        };
        episode.record(&step)?;
        self.remember(reply, &reading, &used);
        let stop =
            self.limits.after(Turn { step: &step, finished: used.finished, elapsed: episode.elapsed() });
        self.index += 1;
        Ok(stop)
    }

    async fn ask(&self, model: &dyn Llm, episode: &Episode<'_>) -> Result<ChatReply, LlmError> {
        let request = ChatRequest {
            messages: &self.messages,
            tools: self.tools.as_ref(),
            session: episode.rollout.as_str(),
            sample: episode.sample,
            step: self.index,
            instance_id: episode.task.instance_id.as_str(),
            timeout: self.limits.query_timeout(episode.elapsed()),
        };
        model.chat(request, &episode.cancel).await
    }

    async fn act(&mut self, reading: &Reading, episode: &mut Episode<'_>) -> Result<Used, AgentError> {
        match reading {
            Reading::Call { call, arguments, .. } => {
                Ok(self.toolbox.call(episode, &call.name, arguments).await?)
            }
            Reading::Malformed { complaint, .. } => Ok(Used::refused(complaint.clone())),
            Reading::Nothing => Ok(Used::reminder()),
        }
    }

    fn step(&self, reply: &ChatReply, reading: &Reading, used: &Used) -> Step {
        let call = reading.call();
        Step {
            index: self.index,
            reasoning: reply.reasoning.clone(),
            content: reply.content.clone(),
            raw_reply: reply.raw.clone(),
            tool_calls: match self.mode {
                ToolMode::Native => reply.tool_calls.clone(),
                ToolMode::XmlText => call.cloned().into_iter().collect(),
            },
            observations: vec![Observation {
                tool_call_id: call.map(|call| call.id.clone()).unwrap_or_default(),
                name: call.map(|call| call.name.clone()).unwrap_or_default(),
                content: used.content.clone(),
                is_error: used.is_error,
                exit_code: used.exit_code,
                truncated_bytes: used.truncated_bytes,
                duration_ms: millis(used.duration),
            }],
            finish_reason: reply.finish_reason.clone(),
            format_error: reading.complaint(),
            usage: reply.usage,
            cost_usd: reply.cost_usd,
            ..Step::default()
        }
    }

    /// Puts the turn into the history: the reply as it was, then the observation.
    fn remember(&mut self, reply: ChatReply, reading: &Reading, used: &Used) {
        match (self.mode, reading.call()) {
            (ToolMode::Native, Some(call)) => {
                self.messages.push(Message::assistant(reply.content, vec![echoable(call)]));
                self.messages.push(Message::tool(call, used.content.clone()));
            }
            _ => {
                // An endpoint may refuse an assistant message without any content.
                let content =
                    if reply.content.is_empty() { "(empty reply)".to_owned() } else { reply.content };
                self.messages.push(Message::assistant(content, Vec::new()));
                self.messages.push(Message::user(used.content.clone()));
            }
        }
    }
}

/// The call as it may be sent back: endpoints refuse arguments that are no JSON object.
fn echoable(call: &ToolCall) -> ToolCall {
    if call.arguments_valid { call.clone() } else { ToolCall { arguments: "{}".into(), ..call.clone() } }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
