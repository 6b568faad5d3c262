//! What was asked, and what became of it.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::watch;

use super::{Misbehaviour, Turn};

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The session id, where the server was told which header carries it.
    pub session: Option<String>,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it arrived.
    pub body: Vec<u8>,
    /// Assistant messages in the conversation; 0 for a refused request.
    pub step: usize,
    /// Requests that were open when it arrived, itself included.
    pub open: usize,
    /// How it was answered.
    pub outcome: Outcome,
    /// How far the answer came.
    pub end: End,
}

impl Exchange {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Pending,
    /// As the script has it.
    Answered,
    /// It was malformed, for this reason.
    Refused(String),
    /// In this wrong way, on purpose.
    Misbehaved(Misbehaviour),
}

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is being given.
    Open,
    /// The server gave everything that it meant to give.
    Given,
    /// The caller closed the connection before.
    HungUp,
}

/// All exchanges, and a way to wait for them.
#[derive(Clone)]
pub(super) struct Log(watch::Sender<Vec<Exchange>>);

impl Default for Log {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Log {
    pub(super) fn all(&self) -> Vec<Exchange> {
        self.0.borrow().clone()
    }

    pub(super) async fn wait_for(&self, condition: impl Fn(&[Exchange]) -> bool) -> Vec<Exchange> {
        let mut changes = self.0.subscribe();
        let exchanges = changes.wait_for(|exchanges| condition(exchanges)).await;
        exchanges.expect("the log itself holds a sender").clone()
    }

    pub(super) fn open(
        &self,
        session: Option<String>,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> OpenExchange {
        let mut number = 0;
        self.0.send_modify(|exchanges| {
            number = exchanges.len();
            let open = exchanges.iter().filter(|other| other.end == End::Open).count() + 1;
            let (outcome, end) = (Outcome::Pending, End::Open);
            exchanges.push(Exchange { session, headers, body, step: 0, open, outcome, end });
        });
        OpenExchange { log: self.clone(), number }
    }
}

/// An exchange that is going on. Dropped before it was closed, it counts as hung up: the server drops the answer of
/// a caller that went away.
pub(super) struct OpenExchange {
    log: Log,
    number: usize,
}

impl OpenExchange {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn session(&self) -> Option<String> {
        self.log.0.borrow()[self.number].session.clone()
    }

    /// Notes the step, and returns how often it was asked before in a row. A repeated request must be the same.
    pub(super) fn join_conversation(&mut self, turn: &Turn) -> Result<usize, String> {
        let mut result = Ok(0);
        self.log.0.send_modify(|exchanges| {
            exchanges[self.number].step = turn.step;
            result = attempt(exchanges, self.number);
        });
        result
    }

    pub(super) fn decide(&mut self, outcome: Outcome) {
        self.log.0.send_modify(|exchanges| exchanges[self.number].outcome = outcome);
    }

    /// The server is done with it.
    pub(super) fn close(self) {
        self.end(End::Given);
    }

    fn end(&self, end: End) {
        self.log.0.send_if_modified(|exchanges| {
            let exchange = &mut exchanges[self.number];
            let open = exchange.end == End::Open;
            if open {
                exchange.end = end;
            }
            open
        });
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.end(End::HungUp);
    }
}

/// The attempt's number, from 0. Only a request after a failed one of the same session and step is a retry: a whole
/// conversation may well be had again.
fn attempt(exchanges: &[Exchange], number: usize) -> Result<usize, String> {
    let this = &exchanges[number];
    let Some(session) = &this.session else { return Ok(0) };
    let earlier = exchanges[..number].iter().rev().filter(|other| other.session.as_ref() == Some(session));
    let failed = |other: &&Exchange| {
        other.step == this.step && matches!(other.outcome, Outcome::Misbehaved(_) | Outcome::Pending)
    };
    let tries: Vec<_> = earlier.take_while(failed).collect();
    match tries.iter().all(|earlier| earlier.body == this.body) {
        true => Ok(tries.len()),
        false => Err("the body of a retry differs from the first try's".to_owned()),
    }
}
