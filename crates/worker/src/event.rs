//! What a worker tells whoever watches it.

use thresher_core::{Fault, InstanceId, Outcome, Phase, RolloutId, ShardId, StopReason};
use thresher_ledger::RunState;

/// A fact about a running worker.
#[derive(Clone, Debug)]
pub enum Event {
    /// The queue is known.
    Planned {
        /// Rollouts of the run.
        planned: u64,
        /// Of those, the ones that earlier invocations finished.
        finished_before: u64,
    },
    /// A rollout begins.
    Started {
        /// Which.
        rollout: RolloutId,
        /// Its task.
        instance_id: InstanceId,
        /// Its sample.
        sample: u32,
    },
    /// A rollout entered a phase.
    Entered {
        /// Which.
        rollout: RolloutId,
        /// Which phase.
        phase: Phase,
    },
    /// An agent took a turn.
    Stepped {
        /// Which.
        rollout: RolloutId,
        /// Turns so far.
        steps: u32,
        /// Tokens of this turn.
        tokens: u64,
        /// Cost of this turn in US dollars, where prices are known.
        cost_usd: Option<f64>,
    },
    /// A rollout ended.
    Finished {
        /// Which.
        rollout: RolloutId,
        /// Its task.
        instance_id: InstanceId,
        /// Its sample.
        sample: u32,
        /// How.
        outcome: Outcome,
        /// Why the agent's part ended.
        stop_reason: Option<StopReason>,
        /// Turns.
        steps: u32,
        /// Wall-clock milliseconds of the attempt.
        wall_ms: u64,
    },
    /// A fault will be tried again.
    WillRetry {
        /// Which rollout.
        rollout: RolloutId,
        /// Its task.
        instance_id: InstanceId,
        /// What happened.
        fault: Fault,
        /// After how many seconds.
        after_s: u64,
    },
    /// Other workers have heartbeats, of which some may be lost ones.
    Met {
        /// How many.
        workers: usize,
        /// After how many seconds of silence a worker counts as lost.
        patience_s: u64,
    },
    /// A shard was taken from a worker that is gone.
    TookOver {
        /// Which.
        shard: ShardId,
        /// Attempts that were in flight.
        lost: usize,
    },
    /// A shard that this worker held was taken over by another.
    Fenced {
        /// Which.
        shard: ShardId,
    },
    /// A rollout is not tried again, since workers were lost while they ran it.
    SetAside {
        /// Which.
        rollout: RolloutId,
        /// How many workers.
        workers: usize,
    },
    /// Operators want the run to go on, to pause or to end.
    Controlled {
        /// What they want.
        state: RunState,
    },
    /// No new rollouts are started from here on.
    Draining {
        /// Rollouts that still run.
        running: usize,
    },
}

/// Hears events. Must not block.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn hear(&self, event: Event);
}
