//! What goes wrong, and when: a table by request number, and chances.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::Turn;

/// One way to go wrong. `after` counts pieces of the body: events of a stream, small pieces of a whole reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Misbehaviour {
    /// Another status than 200.
    Status {
        /// The status.
        status: u16,
        /// The `Retry-After` header: seconds or an HTTP date.
        retry_after: Option<String>,
        /// The body, as it is.
        body: String,
    },
    /// No answer, not even a status, while the connection stays open.
    Silence,
    /// The connection is reset before the status.
    Reset,
    /// The body stops after some pieces, while the connection stays open.
    Stall {
        /// Pieces before it stops.
        after: usize,
    },
    /// The connection breaks off inside the body.
    Torn {
        /// Pieces before it breaks.
        after: usize,
    },
    /// The body ends in order, but too early.
    Short {
        /// Pieces before it ends.
        after: usize,
    },
    /// A body that is no JSON.
    Garbage,
    /// An error object with status 200: in place of a reply, or as a late event of a stream.
    ErrorInside {
        /// Pieces of a stream before it.
        after: usize,
        /// The error object, as JSON text.
        error: String,
    },
}

impl Misbehaviour {
    /// A status with an error object as its body.
    pub fn status(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "error": { "message": message, "type": "server_error" } }).to_string();
        Self::Status { status, retry_after: None, body }
    }

    /// 429 with a `Retry-After` header.
    pub fn too_many_requests(retry_after: &str) -> Self {
        let body =
            serde_json::json!({ "error": { "message": "slow down", "type": "rate_limit" } }).to_string();
        Self::Status { status: 429, retry_after: Some(retry_after.to_owned()), body }
    }
}

/// The plan. Chances are drawn from the seed, the session, the step and the attempt: the same conversation meets
/// the same faults, whatever else runs beside it.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// By request number, from 0 in order of arrival.
    pub at: BTreeMap<usize, Misbehaviour>,
    /// Probability of each; together at most 1.
    pub chances: Vec<(f64, Misbehaviour)>,
    /// The seed of chances and latencies.
    pub seed: u64,
}

impl FaultPlan {
    /// The first requests go wrong in this order.
    pub fn first(misbehaviours: impl IntoIterator<Item = Misbehaviour>) -> Self {
        Self { at: misbehaviours.into_iter().enumerate().collect(), ..Self::default() }
    }

    /// What goes wrong with this request.
    pub(super) fn draw(&self, turn: &Turn) -> Option<Misbehaviour> {
        if let Some(misbehaviour) = self.at.get(&turn.number) {
            return Some(misbehaviour.clone());
        }
        let mut drawn = self.chance("fault", turn);
        self.chances.iter().find_map(|(probability, misbehaviour)| {
            drawn -= probability;
            (drawn < 0.0).then(|| misbehaviour.clone())
        })
    }

    /// A wait between the two bounds.
    pub(super) fn latency(&self, (shortest, longest): (Duration, Duration), turn: &Turn) -> Duration {
        shortest + longest.saturating_sub(shortest).mul_f64(self.chance("latency", turn))
    }

    /// A number from 0 up to 1.
    fn chance(&self, purpose: &str, turn: &Turn) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, purpose, &turn.session, turn.step, turn.attempt).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
