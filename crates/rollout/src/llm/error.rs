//! Why there is no reply, and why there is no client.

use std::path::PathBuf;

use thresher_core::fault::Fault;

/// Why a query has no reply. The variant says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlmError {
    /// The conversation no longer fits the model's context: the rollout ends, with its own stop reason.
    #[error("the conversation does not fit the model's context: {0}")]
    ContextOverflow(String),
    /// The endpoint rejects this conversation, and would again: the rollout ends, and is graded.
    #[error("the model refused the conversation: {0}")]
    Refused(String),
    /// The endpoint or its configuration failed: the rollout says nothing about the agent.
    #[error(transparent)]
    Fault(Fault),
    /// The caller's token was cancelled.
    #[error("the model call was cancelled")]
    Cancelled,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LlmSetupError {
    /// The spec names no place to ask.
    #[error("the model {model:?} has neither base_url nor replay; set one of them")]
    NoEndpoint {
        /// The model's name.
        model: String,
    },
    /// The endpoint's address is not one.
    #[error("base_url {url:?} is not an http or https address: {reason}")]
    BaseUrl {
        /// The address, without user name and password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key holds characters that no header can carry. The key itself is not shown.
    #[error("the API key holds characters that an HTTP header cannot carry, such as a line break")]
    Key,
    /// A session header's name is not a header name.
    #[error("client.session_headers: {0:?} is not a header name")]
    SessionHeader(String),
    /// `extra_body` sets a field that the client owns.
    #[error("extra_body may not set {0:?}: the client sets it itself")]
    ExtraBody(String),
    /// A number of the spec makes no sense.
    #[error("{field}: {reason}")]
    Value {
        /// The field, as in a job file.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be built, for example because the system has no certificates.
    #[error("cannot set up HTTPS: {0}")]
    Http(String),
    /// The recording cannot be read.
    #[error("cannot read recorded replies from {}: {source}", path.display())]
    ReplayRead {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line of the recording is wrong.
    #[error("{}, line {line}: {reason}", path.display())]
    ReplayLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}
