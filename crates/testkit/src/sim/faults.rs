//! How requests fare between a process and the store: data and one draw.

use std::ops::Range;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::store::Request;

/// What goes wrong with the store, and until when. Chances are per request.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreFaults {
    /// Milliseconds that a request takes to arrive, and an answer to come back.
    pub latency_ms: Range<u64>,
    /// The request never arrives; its sender hears of an error after a while.
    pub request_lost: f64,
    /// The request takes effect; its sender hears of an error.
    pub answer_lost: f64,
    /// Its sender hears of an error; the request arrives long after.
    pub late: f64,
    /// A conditional write is answered "another one is under way".
    pub contended: f64,
    /// The store asks for fewer requests.
    pub throttled: f64,
    /// The store is away: from, until.
    pub outages: Vec<(Duration, Duration)>,
    /// Objects on a page of a listing.
    pub page: Range<usize>,
    /// From here on only latency remains.
    pub calm_from: Duration,
}

impl Default for StoreFaults {
    /// Latency and nothing else.
    fn default() -> Self {
        Self {
            latency_ms: 1..20,
            request_lost: 0.0,
            answer_lost: 0.0,
            late: 0.0,
            contended: 0.0,
            throttled: 0.0,
            outages: Vec::new(),
            page: 1_000..1_001,
            calm_from: Duration::ZERO,
        }
    }
}

/// How a request will fare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Until it arrives.
    pub(crate) there: Duration,
    /// Until its answer is back.
    pub(crate) back: Duration,
    pub(crate) fate: Fate,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Served,
    RequestLost,
    AnswerLost,
    /// It arrives so long after its sender gave up.
    Late(Duration),
    Contended,
    Throttled,
    /// The store is away.
    Outage,
}

/// How long a sender waits for an answer that does not come.
pub(crate) const PATIENCE: Range<u64> = 500..8_000;

impl StoreFaults {
    pub(crate) fn draw(&self, random: &mut StdRng, at: Duration, request: &Request) -> Course {
        let mut latency = || Duration::from_millis(random.random_range(self.latency_ms.clone()));
        let (there, back) = (latency(), latency());
        Course { there, back, fate: self.fate(random, at, request) }
    }

    fn fate(&self, random: &mut StdRng, at: Duration, request: &Request) -> Fate {
        if self.outages.iter().any(|(from, until)| *from <= at && at < *until) {
            return Fate::Outage;
        }
        let mut dice = random.random::<f64>();
        if at >= self.calm_from {
            return Fate::Served;
        }
        let mut falls = |chance: f64| {
            dice -= chance;
            dice < 0.0
        };
        if falls(self.request_lost) {
            Fate::RequestLost
        } else if falls(self.answer_lost) {
            Fate::AnswerLost
        } else if falls(self.throttled) {
            Fate::Throttled
        } else if falls(self.late) {
            Fate::Late(Duration::from_millis(random.random_range(0..120_000)))
        } else if request.is_conditional() && falls(self.contended) {
            Fate::Contended
        } else {
            Fate::Served
        }
    }
}
