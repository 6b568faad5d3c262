//! What a case is made of: everything follows from one seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_ledger::RunState;

use super::fate::{CAP_MICRO_USD, RolloutFaults};
use super::faults::StoreFaults;
use super::link::{Trouble, When};
use super::plan::Size;

/// A case.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What everything was drawn from.
    pub seed: u64,
    /// The job.
    pub size: Size,
    /// How rollouts go wrong.
    pub rollouts: RolloutFaults,
    /// How the store goes wrong.
    pub store: StoreFaults,
    /// The workers.
    pub members: Vec<Member>,
    /// When the run is extended, and to how many samples.
    pub extension: Option<(Duration, u32)>,
    /// Planners that begin the run at the same time; with none the plan is there from the start.
    pub planners: u32,
    /// Whether the run is extended once more when it has ended.
    pub afterthought: bool,
    /// Rounds that operators add when the run has ended.
    pub rounds_after: u32,
    /// What operators do, and when.
    pub control: Vec<(Duration, Wanted)>,
    /// Limit of the run in millionths of a dollar.
    pub budget_micro_usd: Option<u64>,
    /// Raw bytes of a pack: a record has about 2,000.
    pub pack_bytes: u64,
    /// Seconds after which workers pack what they have.
    pub pack_s: u64,
    /// Processes that follow the run from beginning to end.
    pub followers: u32,
    /// Processes that clear unneeded files away all the time, with what is done to each.
    pub cleaners: Vec<Vec<(When, Trouble)>>,
    /// How long they keep files that nobody new will read.
    pub keep_condemned: Duration,
    /// Processes that compact packs all the time, with what is done to each.
    pub compactors: Vec<Vec<(When, Trouble)>>,
}

/// What operators want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Another state of the run.
    State(RunState),
    /// Faulted rollouts tried again.
    Round,
}

/// A worker's place in the fleet: one process after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// When the first process begins.
    pub start: Duration,
    /// Rollouts at a time.
    pub slots: usize,
    /// How fast its clock runs: it takes a second for so many.
    pub clock_rate: f64,
    /// How far its time of day is off, in seconds.
    pub wall_offset_s: i64,
    /// What is done to each process; there are no more than these.
    pub lives: Vec<Vec<(When, Trouble)>>,
    /// Pause between the end of a process and the next one.
    pub restart_after: Duration,
}

/// Draws from the seed.
struct Lots(StdRng);

impl Lots {
    fn chance(&mut self, chance: f64) -> bool {
        self.0.random_bool(chance)
    }

    fn number(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    fn seconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.0.random_range(range.start * 1_000..range.end * 1_000))
    }
}

impl Scenario {
    /// The case of a seed.
    pub fn of(seed: u64) -> Self {
        let mut lots = Lots(StdRng::seed_from_u64(seed));
        let size = Size {
            tasks: lots.number(2..13) as u32,
            images: lots.number(1..7) as u32,
            samples: lots.number(1..4) as u32,
        };
        let store = store_faults(&mut lots);
        let kills = if lots.chance(0.5) { 5 } else { 1 };
        let members = (0..lots.number(3..7)).map(|_| member(&mut lots, kills)).collect();
        Self {
            seed,
            size,
            rollouts: RolloutFaults {
                seed,
                flaky: if lots.chance(0.5) { 0.2 } else { 0.0 },
                hopeless: if lots.chance(0.2) { 0.1 } else { 0.0 },
                poison: if lots.chance(0.15) { 0.05 } else { 0.0 },
                longest_s: lots.number(5..200),
            },
            store,
            members,
            extension: lots.chance(0.3).then(|| (lots.seconds(1..1_500), size.samples + 1)),
            planners: if lots.chance(0.3) { lots.number(1..4) as u32 } else { 0 },
            afterthought: lots.chance(0.15),
            rounds_after: if lots.chance(0.15) { 3 } else { 0 },
            control: control(&mut lots),
            budget_micro_usd: lots.chance(0.2).then(|| lots.number(1..20) * CAP_MICRO_USD),
            pack_bytes: if lots.chance(0.4) { lots.number(1_000..30_000) } else { 128 << 20 },
            pack_s: lots.number(20..900),
            followers: u32::from(lots.chance(0.4)),
            cleaners: some(&mut lots),
            keep_condemned: if lots.chance(0.3) { Duration::ZERO } else { lots.seconds(1..900) },
            compactors: some(&mut lots),
        }
    }
}

fn store_faults(lots: &mut Lots) -> StoreFaults {
    let mut rate = |most: f64| if lots.chance(0.5) { lots.0.random_range(0.0..most) } else { 0.0 };
    let (request_lost, answer_lost, late) = (rate(0.03), rate(0.05), rate(0.01));
    let (contended, throttled) = (rate(0.1), rate(0.05));
    let outages = (0..lots.number(0..3))
        .map(|_| {
            let from = lots.seconds(0..1_000);
            (from, from + lots.seconds(5..300))
        })
        .collect();
    let slowest = if lots.chance(0.2) { 3_000 } else { 60 };
    StoreFaults {
        latency_ms: 1..slowest,
        request_lost,
        answer_lost,
        late,
        contended,
        throttled,
        outages,
        page: if lots.chance(0.5) { 1..12 } else { 1_000..1_001 },
        calm_from: Duration::from_secs(1_500),
    }
}

fn member(lots: &mut Lots, kills: u64) -> Member {
    let lives = (0..lots.number(1..4)).map(|_| troubles(lots, kills)).collect();
    Member {
        start: if lots.chance(0.5) { Duration::ZERO } else { lots.seconds(0..300) },
        slots: lots.number(1..5) as usize,
        clock_rate: lots.0.random_range(0.8..1.25),
        wall_offset_s: lots.number(0..20_000) as i64 - 10_000,
        lives,
        restart_after: lots.seconds(0..200),
    }
}

/// What is done to one process: kills, so many of ten times, and else mostly what makes zombies.
fn troubles(lots: &mut Lots, kills: u64) -> Vec<(When, Trouble)> {
    let mut troubles = Vec::new();
    for _ in 0..lots.number(0..3) {
        let when = match lots.chance(0.7) {
            true => When::Operation(lots.number(1..150)),
            false => When::After(lots.seconds(0..900)),
        };
        let trouble = match lots.number(0..10) {
            dice if dice < kills => Trouble::Kill,
            dice if dice < 7 => Trouble::Freeze(lots.seconds(1..900)),
            dice if dice < 9 => Trouble::Partition(lots.seconds(1..400)),
            _ => Trouble::Drain,
        };
        troubles.push((when, trouble));
    }
    troubles
}

/// Two such processes in some of the cases, one in others.
fn some(lots: &mut Lots) -> Vec<Vec<(When, Trouble)>> {
    let most = lots.number(0..5).saturating_sub(2);
    (0..most).map(|_| freezes(lots)).collect()
}

/// A process that is stopped now and then, in the middle of things.
fn freezes(lots: &mut Lots) -> Vec<(When, Trouble)> {
    let mut freeze = || (When::Operation(lots.number(1..300)), Trouble::Freeze(lots.seconds(1..1_500)));
    vec![freeze(), freeze()]
}

fn control(lots: &mut Lots) -> Vec<(Duration, Wanted)> {
    let mut at = lots.seconds(0..600);
    let mut next = |lots: &mut Lots| {
        at += lots.seconds(1..300);
        at
    };
    match lots.number(0..10) {
        0 => vec![
            (next(lots), Wanted::State(RunState::Paused)),
            (next(lots), Wanted::State(RunState::Running)),
        ],
        1 => vec![(next(lots), Wanted::State(RunState::Cancelled { now: lots.chance(0.5) }))],
        2 => vec![(next(lots), Wanted::Round)],
        _ => Vec::new(),
    }
}
