//! Model clients: one conversation in, one reply out.
//!
//! The secret here is everything that lies between the agent's conversation and a reply it can trust: the wire
//! format, streams that tear, timeouts per phase, retries from a shared budget, what an error body means. An
//! agent sees a [`ChatReply`] or one of four [`LlmError`]s, and those say what to do.
//!
//! Invariants:
//! - The API key goes into one header and is in no error, log line or record.
//! - The body of a request is the same byte for byte over all of its retries.
//! - A reply is whole: a stream that ended early is tried again, never handed on.
//! - Dropping or cancelling a call closes its connection, so that the endpoint stops generating.

use std::path::PathBuf;
use std::sync::Arc;

use thresher_core::run_spec::ModelSpec;
use thresher_core::secret::Secret;

mod assemble;
mod chat;
mod error;
mod exchange;
mod http;
mod openai;
mod price;
mod redact;
mod rejection;
mod replay;
mod reply;
mod request;
mod retry;
mod slots;
mod sse;

pub use chat::{ChatReply, ChatRequest, Llm, Message, Role};
pub use error::{LlmError, LlmSetupError};

/// Makes the client that `spec` describes.
///
/// A recording (`replay_path`, or else the spec's own `replay` taken as it is) is used instead of an endpoint.
/// The key is the value of the spec's `api_key_env`, which only the caller may read.
///
/// # Errors
/// Where the spec names neither endpoint nor recording, or one that cannot be used.
pub fn connect(
    spec: &ModelSpec,
    api_key: Option<Secret>,
    replay_path: Option<PathBuf>,
) -> Result<Arc<dyn Llm>, LlmSetupError> {
    if let Some(path) = replay_path.or_else(|| spec.replay.as_ref().map(PathBuf::from)) {
        return Ok(Arc::new(replay::Replay::load(&path, &spec.name, spec.price)?));
    }
    Ok(Arc::new(openai::OpenAiClient::new(spec, api_key)?))
}
