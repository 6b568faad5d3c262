//! A fleet of workers in virtual time: the real protocol code over a simulated store, with simulated rollouts.
//!
//! A case is one [`Scenario`], which follows from one seed, played by [`play`] in one runtime of one thread whose clock
//! is paused: it moves only when everybody waits. So the same seed gives the same [`Trace`], event for event.
//!
//! ```text
//! scenario.rs   the seed -> job, fleet, troubles            fate.rs     (seed, rollout, attempt) -> how it goes
//! case.rs       the fleet under its troubles, then the calm runner.rs   the worker's `Runner` over that
//! member.rs     one process after the other, each the real `Worker`; visitors.rs: everybody else
//! store.rs      the truth: one map, one operation after the other
//! handle.rs     what one process sees of it: latency, lost requests and answers (faults.rs), freezes, kills (link.rs)
//! watch.rs      what must hold at every change              judge.rs    what must hold at the end
//! broken.rs     broken variants, which must be caught       witness.rs  what really happened, for the judge
//! fleet.rs      apart from all that: how busy a large fleet is, without any trouble
//! ```

mod broken;
mod case;
mod fate;
mod faults;
mod fleet;
mod handle;
mod judge;
mod link;
mod member;
mod plan;
mod record;
mod runner;
mod scenario;
mod store;
mod trace;
mod visitors;
mod watch;
mod witness;

pub use broken::Variant;
pub use case::{Verdict, play};
pub use fate::RolloutFaults;
pub use faults::StoreFaults;
pub use fleet::{Fleet, FleetReport, Knowledge, Workload, fixed_shards, play_fleet};
pub use handle::StoreHandle;
pub use link::{Link, Trouble, When};
pub use plan::Size;
pub use scenario::{Member, Scenario, Wanted};
pub use store::SimStore;
pub use trace::Trace;
