//! One try: a request out, a whole reply in, with a deadline for every silence.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use serde_json::Value;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::run_spec::ClientSpec;
use tokio::time::{Instant, timeout};

use super::assemble::{Assembly, ChunkError};
use super::http::{Endpoint, chain};
use super::rejection::{Rejection, judge, judge_error};
use super::reply::{Body, decode};
use super::sse::EventReader;
use super::{ChatReply, LlmError, retry};

/// Bytes of one reply: far above what a model says, and a bound on what a broken endpoint can make us hold.
const MAX_REPLY: usize = 64 << 20;

/// Bytes of an error's body that are read.
const MAX_ERROR: usize = 64 << 10;

/// How long a finished stream may take to end. A connection is only used again after its end.
const STREAM_END: Duration = Duration::from_millis(200);

/// Why a try brought no reply.
#[derive(Debug)]
pub(super) enum TryError {
    /// Trying again cannot help.
    Final(LlmError),
    /// Trying again may help.
    Again(Setback),
}

/// What went wrong with a try that may be repeated.
#[derive(Debug)]
pub(super) struct Setback {
    /// What was seen, for a person.
    pub reason: String,
    /// The pause that the endpoint asks for.
    pub asked: Option<Duration>,
    /// Whether it asks for less load.
    pub overloaded: bool,
}

impl Setback {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), asked: None, overloaded: false }
    }
}

impl From<Setback> for TryError {
    fn from(setback: Setback) -> Self {
        Self::Again(setback)
    }
}

impl From<Rejection> for TryError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Overflow(reason) => Self::Final(LlmError::ContextOverflow(reason)),
            Rejection::Refused(reason) => Self::Final(LlmError::Refused(reason)),
            Rejection::Configuration(reason) => Self::Final(configuration(reason)),
            Rejection::Retry { reason, overloaded } => {
                Self::Again(Setback { overloaded, ..Setback::new(reason) })
            }
        }
    }
}

fn configuration(reason: String) -> LlmError {
    LlmError::Fault(Fault::new(Blame::Configuration, Retry::Never, Phase::Agent, reason))
}

/// Sends the request once and reads the reply; `step` makes ids for calls that came without one.
pub(super) async fn exchange(
    endpoint: &Endpoint,
    client: &ClientSpec,
    session: &str,
    body: Bytes,
    step: u32,
) -> Result<ChatReply, TryError> {
    let started = Instant::now();
    let first_byte_timeout = Duration::from_secs(client.first_byte_timeout_s);
    let response = match timeout(first_byte_timeout, endpoint.post(session, body).send()).await {
        Err(_) => return Err(no_first_byte(client).into()),
        Ok(Err(error)) => return Err(not_sent(error)),
        Ok(Ok(response)) => response,
    };
    let mut incoming = Incoming { response, client, started, first_byte: None, received: 0 };
    let (completion, raw) = incoming.completion().await?;
    let latency = started.elapsed();
    match decode(&completion, step) {
        Ok(Body::Reply(reply)) => {
            Ok(ChatReply { raw, latency, first_byte: incoming.first_byte.unwrap_or(latency), ..*reply })
        }
        Ok(Body::Error(error)) => Err(judge_error(&error).into()),
        Ok(Body::Filtered) => Err(TryError::Final(LlmError::Refused(
            "the endpoint's content filter took the reply away".into(),
        ))),
        Err(reason) => Err(Setback::new(reason).into()),
    }
}

fn no_first_byte(client: &ClientSpec) -> Setback {
    Setback::new(format!("no byte of a reply within {} s", client.first_byte_timeout_s))
}

fn not_sent(error: reqwest::Error) -> TryError {
    // The address may hold a key in its query; which endpoint it is stands in the record.
    let error = error.without_url();
    let reason = chain(&error);
    if error.is_builder() { TryError::Final(configuration(reason)) } else { Setback::new(reason).into() }
}

/// A response whose body is being read.
struct Incoming<'a> {
    response: Response,
    client: &'a ClientSpec,
    started: Instant,
    first_byte: Option<Duration>,
    received: usize,
}

impl Incoming<'_> {
    /// Reads the body to its end: the completion object, and the text to keep.
    async fn completion(&mut self) -> Result<(Value, String), TryError> {
        if !self.response.status().is_success() {
            return Err(self.rejection().await);
        }
        // An endpoint may answer at once although a stream was asked for.
        if is_event_stream(self.response.headers()) {
            let completion = self.stream().await?;
            let raw = completion.to_string();
            return Ok((completion, raw));
        }
        let raw = self.text().await?;
        match serde_json::from_str(&raw) {
            Ok(completion) => Ok((completion, raw)),
            Err(error) => Err(Setback::new(format!("the reply is no JSON: {error}")).into()),
        }
    }

    /// Waits for the next piece of the body, which is short of time from the first byte on.
    async fn piece(&mut self) -> Result<Option<Bytes>, Setback> {
        let wait = match self.first_byte {
            None => {
                Duration::from_secs(self.client.first_byte_timeout_s).saturating_sub(self.started.elapsed())
            }
            Some(_) => Duration::from_secs(self.client.stall_timeout_s),
        };
        let piece = match timeout(wait, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|error| broke_off(error.without_url()))?,
            Err(_) if self.first_byte.is_none() => return Err(no_first_byte(self.client)),
            Err(_) => {
                return Err(Setback::new(format!("the reply stalled for {} s", self.client.stall_timeout_s)));
            }
        };
        if let Some(piece) = &piece {
            self.first_byte.get_or_insert_with(|| self.started.elapsed());
            self.received += piece.len();
        }
        if self.received > MAX_REPLY {
            return Err(Setback::new(format!("the reply is longer than {} MiB", MAX_REPLY >> 20)));
        }
        Ok(piece)
    }

    async fn text(&mut self) -> Result<String, Setback> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn stream(&mut self) -> Result<Value, TryError> {
        let (mut events, mut assembly) = (EventReader::default(), Assembly::default());
        while let Some(piece) = self.piece().await? {
            for data in events.push(&piece) {
                assembly.push(&data)?;
            }
            if assembly.is_done() {
                // Whether the end comes or not, the reply is whole.
                drop(timeout(STREAM_END, self.response.chunk()).await);
                break;
            }
        }
        if let Some(data) = events.finish() {
            assembly.push(&data)?;
        }
        assembly.finish().ok_or_else(|| Setback::new("the stream ended before the reply did").into())
    }

    /// Reads what the endpoint says instead of a reply. A body that breaks off is judged as far as it came.
    async fn rejection(&mut self) -> TryError {
        let status = self.response.status().as_u16();
        let headers = self.response.headers();
        let asked = asked_pause(headers, SystemTime::now());
        let location = header(headers, LOCATION.as_str()).filter(|_| self.response.status().is_redirection());
        let location = location.map(|to| format!("redirects to {to}"));
        let mut bytes = Vec::new();
        while let Ok(Some(piece)) = self.piece().await {
            bytes.extend_from_slice(&piece);
            if bytes.len() >= MAX_ERROR {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match judge(status, location.as_deref().unwrap_or(&text)).into() {
            TryError::Again(setback) => TryError::Again(Setback { asked, ..setback }),
            last => last,
        }
    }
}

impl From<ChunkError> for TryError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Error(error) => judge_error(&error).into(),
            ChunkError::Garbage(reason) => {
                Setback::new(format!("a piece of the stream is broken: {reason}")).into()
            }
        }
    }
}

fn broke_off(error: reqwest::Error) -> Setback {
    Setback::new(format!("the reply broke off: {}", chain(&error)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    header(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/event-stream"))
}

fn asked_pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry::asked_pause(header(headers, "retry-after-ms"), header(headers, "retry-after"), now)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
