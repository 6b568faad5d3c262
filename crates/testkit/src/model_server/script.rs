//! What the model says.

use serde_json::{Value, json};

use super::Misbehaviour;

/// A well-formed request, as a script sees it.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Position among all requests, from 0.
    pub number: usize,
    /// The session id, where the server was told which header carries it.
    pub session: Option<String>,
    /// Assistant messages so far: 0 on the first turn.
    pub step: usize,
    /// Failed tries of this request before; 0 without a session.
    pub attempt: usize,
    /// The whole body.
    pub body: Value,
}

impl Turn {
    pub(super) fn new(number: usize, session: Option<String>, body: &Value) -> Self {
        let mut turn = Self { number, session, step: 0, attempt: 0, body: body.clone() };
        turn.step = turn.messages().iter().filter(|message| message["role"] == "assistant").count();
        turn
    }

    /// The conversation.
    pub fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The text of the last message: the task or an observation.
    pub fn last_text(&self) -> &str {
        self.messages().last().and_then(|message| message["content"].as_str()).unwrap_or_default()
    }

    /// Whether any message's text contains `marker`; tasks are told apart by it.
    pub fn mentions(&self, marker: &str) -> bool {
        let texts = self.messages().iter().filter_map(|message| message["content"].as_str());
        texts.into_iter().any(|text| text.contains(marker))
    }

    pub(super) fn streamed(&self) -> bool {
        self.body["stream"] == true
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.body.pointer("/stream_options/include_usage") == Some(&json!(true))
    }
}

/// One reply of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The text.
    pub content: String,
    /// Reasoning apart from the text.
    pub reasoning: Option<String>,
    /// Calls: name and the text of the arguments. Ids are made from step and position.
    pub calls: Vec<(String, String)>,
    /// The finish reason; `tool_calls` or `stop` if `None`.
    pub finish_reason: Option<String>,
    /// The usage object; made from the lengths of the texts if `None`.
    pub usage: Option<Value>,
}

impl Reply {
    /// A reply with a text.
    pub fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// The same with reasoning.
    pub fn reasoning(self, reasoning: impl Into<String>) -> Self {
        Self { reasoning: Some(reasoning.into()), ..self }
    }

    /// The same with one call more.
    pub fn call(self, name: &str, arguments: Value) -> Self {
        self.raw_call(name, &arguments.to_string())
    }

    /// The same with one call more, whose arguments may be no JSON.
    pub fn raw_call(mut self, name: &str, arguments: &str) -> Self {
        self.calls.push((name.to_owned(), arguments.to_owned()));
        self
    }

    /// The same, but something goes wrong on its way.
    pub fn but(self, misbehaviour: Misbehaviour) -> Answer {
        Answer { reply: self, misbehaviour: Some(misbehaviour) }
    }
}

/// What a script decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What the model says.
    pub reply: Reply,
    /// What goes wrong with it. It goes before the fault plan.
    pub misbehaviour: Option<Misbehaviour>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, misbehaviour: None }
    }
}

impl From<Misbehaviour> for Answer {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Reply::text("a reply that does not arrive").but(misbehaviour)
    }
}

/// A policy for all conversations. Any closure over a [`Turn`] is one.
pub trait Script: Send + Sync + 'static {
    /// Decides one turn.
    fn answer(&self, turn: &Turn) -> Answer;
}

impl<F: Fn(&Turn) -> Answer + Send + Sync + 'static> Script for F {
    fn answer(&self, turn: &Turn) -> Answer {
        self(turn)
    }
}

/// A script as a table: by a marker in the conversation, then by step. The last reply of a marker repeats.
#[derive(Clone, Debug, Default)]
pub struct ScriptTable {
    rows: Vec<(String, Vec<Reply>)>,
}

impl ScriptTable {
    /// Adds the replies for conversations that contain `marker`; earlier rows go first.
    pub fn row(mut self, marker: &str, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.rows.push((marker.to_owned(), replies.into_iter().collect()));
        self
    }
}

impl Script for ScriptTable {
    fn answer(&self, turn: &Turn) -> Answer {
        let row = self.rows.iter().find(|(marker, _)| turn.mentions(marker));
        let reply = row.and_then(|(_, replies)| replies.get(turn.step).or_else(|| replies.last()));
        match reply {
            Some(reply) => reply.clone().into(),
            None => Misbehaviour::status(400, "the script has no row for this conversation").into(),
        }
    }
}
