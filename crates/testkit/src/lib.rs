//! Test doubles that behave. For tests only: no other crate depends on this one outside of its tests.
//!
//! The secret here is how to act like an endpoint that is strict with its callers and unreliable on demand. The
//! main type is [`ModelServer`], a scripted OpenAI-compatible server on a loopback port:
//!
//! ```
//! use thresher_testkit::{ModelServer, ModelServerSpec, Reply, Turn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let script = |turn: &Turn| match turn.step {
//!     0 => Reply::text("Looking.").call("search", serde_json::json!({ "search_term": "sum" })).into(),
//!     _ => Reply::text("Done.").into(),
//! };
//! let server = ModelServer::start(ModelServerSpec::default(), script).await.unwrap();
//! assert!(server.base_url().starts_with("http://127.0.0.1:"));
//! # });
//! ```
//!
//! [`S3Server`] runs real S3 servers as child processes, and [`HeedlessProxy`] makes one of them ignore conditions.
//!
//! The module `sim` (feature `sim`) simulates a fleet of workers over a store that fails, in virtual time. It is behind a
//! feature because it needs the crates that it simulates, whose own tests use the servers above.
//!
//! Invariants:
//! - A request that a strict endpoint could refuse is refused with status 400 and a reason, never answered.
//! - What goes wrong is data: a table by request number, or chances drawn from a seed and the request itself, so
//!   that concurrency does not change which request is hit.
//! - Every request is kept, with what became of it.

mod heedless_proxy;
mod model_server;
mod s3_server;
#[cfg(feature = "sim")]
pub mod sim;

pub use heedless_proxy::HeedlessProxy;
pub use model_server::{
    Answer, End, Exchange, FaultPlan, Misbehaviour, ModelServer, ModelServerSpec, Outcome, Reply, Script,
    ScriptTable, Turn,
};
pub use s3_server::{S3Server, S3ServerKind};
