//! How rollouts go: a function of the case's seed, the rollout and the attempt, and of nothing else.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::{Blame, Fault, Phase, Retry, RolloutId};

/// How likely rollouts go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutFaults {
    /// The case's seed.
    pub seed: u64,
    /// Rollouts whose first attempts fault, each with some class.
    pub flaky: f64,
    /// Rollouts of which no attempt can succeed.
    pub hopeless: f64,
    /// Rollouts that kill the process that runs them, whichever it is.
    pub poison: f64,
    /// Seconds that the agent's part of an attempt takes at most.
    pub longest_s: u64,
}

/// What a rollout is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each attempt is graded.
    Sound,
    /// So many attempts fault with this class; later ones are graded.
    Flaky(u32, Retry),
    /// Each attempt faults, and trying again cannot help.
    Hopeless,
    /// It kills its process.
    Poison,
}

/// How one attempt goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// What the rollout is like.
    pub kind: Kind,
    /// How long the agent takes.
    pub agent: Duration,
    /// How long grading takes.
    pub grading: Duration,
    /// The fault that ends it, if one does: before or after the agent's part is stored.
    pub fault: Option<(Fault, Instant)>,
    /// Prompt tokens.
    pub tokens: u64,
    /// Millionths of a dollar.
    pub micro_usd: u64,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// While the agent works.
    BeforeUngraded,
    /// While its patch is graded.
    AfterUngraded,
}

/// The reward of a rollout, whichever attempt gets it.
pub(crate) fn reward(rollout: &RolloutId) -> f64 {
    if hash(("reward", rollout)).is_multiple_of(3) { 1.0 } else { 0.0 }
}

impl RolloutFaults {
    /// What a rollout is like.
    pub fn kind(&self, rollout: &RolloutId) -> Kind {
        let mut random = self.random(("kind", rollout));
        let mut dice = random.random::<f64>();
        let mut falls = |chance: f64| {
            dice -= chance;
            dice < 0.0
        };
        if falls(self.poison) {
            Kind::Poison
        } else if falls(self.hopeless) {
            Kind::Hopeless
        } else if falls(self.flaky) {
            let classes = [Retry::Now, Retry::Later, Retry::Elsewhere];
            Kind::Flaky(random.random_range(1..3), classes[random.random_range(0..classes.len())])
        } else {
            Kind::Sound
        }
    }

    /// How an attempt goes.
    pub fn fate(&self, rollout: &RolloutId, attempt: u32) -> Fate {
        let kind = self.kind(rollout);
        let mut random = self.random((rollout, attempt));
        let mut seconds = |most: u64| Duration::from_millis(random.random_range(500..=most * 1_000));
        let (agent, grading) = (seconds(self.longest_s), seconds(self.longest_s / 4 + 1));
        let fault = match kind {
            Kind::Flaky(times, retry) if attempt <= times => Some((Blame::Daemon, retry)),
            Kind::Hopeless => Some((Blame::Image, Retry::Never)),
            _ => None,
        };
        let fault = fault.map(|(blame, retry)| {
            let late = random.random_bool(0.5);
            let phase = if late { Phase::Grade } else { Phase::Agent };
            let at = if late { Instant::AfterUngraded } else { Instant::BeforeUngraded };
            (Fault::new(blame, retry, phase, "simulated"), at)
        });
        let (tokens, micro_usd) =
            (random.random_range(100..1_000), random.random_range(1_000..=CAP_MICRO_USD));
        Fate { kind, agent, grading, fault, tokens, micro_usd }
    }

    fn random(&self, of: impl Hash) -> StdRng {
        StdRng::seed_from_u64(hash((self.seed, of)))
    }
}

/// What one attempt may cost at most, in millionths of a dollar.
pub(crate) const CAP_MICRO_USD: u64 = 10_000;

/// The same in every process and at every time.
pub(crate) fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
