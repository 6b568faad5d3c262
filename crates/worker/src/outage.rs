//! Whether something that rollouts share is away (the registry, the model, the container engine), as far as this worker's
//! own rollouts tell, and what may begin meanwhile. A pure function of what it is told.
//!
//! One rollout that meets a fault of a shared thing may have a cause of its own: it is tried again without counting, and
//! the others go on. Once rollouts of two tasks have met one, it is an outage: nothing begins but one probe at a time, at
//! growing intervals, until one gets through or lives for much longer than those before it. No rollout is spared for
//! longer than the patience, whatever the others meet, so each comes to an end.

use std::collections::BTreeSet;
use std::time::Duration;

use thresher_core::{Blame, Fault, Retry};
use tokio::time::Instant;

/// First pause before a probe, and before a rollout that was spared is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A probe that lives for so long has got through, if those before it did not last longer.
const SHORTEST_PROOF: Duration = Duration::from_secs(60);
/// So long is enough in any case.
const LONGEST_PROOF: Duration = Duration::from_secs(15 * 60);
/// Tasks whose rollouts must have met the fault.
const WITNESSES: usize = 2;

/// What one worker knows of outages.
#[derive(Debug)]
pub(crate) struct Outage {
    patience: Duration,
    away: Option<Away>,
}

/// Something shared may be away.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// The newest fault.
    fault: Fault,
    /// Tasks whose rollouts met it.
    tasks: BTreeSet<u32>,
    probe: Option<Probe>,
    next_probe: Instant,
    pause: Duration,
    /// The longest that a probe lived.
    longest_probe: Duration,
}

#[derive(Debug)]
struct Probe {
    nonce: String,
    began: Instant,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) nonce: &'a str,
    /// Index of its task in the plan.
    pub(crate) task: u32,
    pub(crate) began: Instant,
    /// What was spared its rollout before.
    pub(crate) spared: Option<Spared>,
}

/// Faults of a rollout that did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spared {
    /// When the first of them came.
    pub(crate) since: Instant,
    /// How many there were.
    pub(crate) times: u32,
}

impl Spared {
    /// How long the rollout waits before it is tried again.
    pub(crate) fn pause(self) -> Duration {
        FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.times - 1)).min(LONGEST_PAUSE)
    }
}

/// How many rollouts may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// As many as there are slots.
    Open,
    /// One.
    Probe,
    /// None before this instant, unless something ends.
    Shut(Instant),
}

impl Outage {
    /// Of a worker that waits for so long; zero: not at all.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, away: None }
    }

    /// An attempt ended with a fault. `Some`: it does not count against its rollout.
    pub(crate) fn faulted(&mut self, now: Instant, ended: Ended<'_>, fault: &Fault) -> Option<Spared> {
        if self.patience.is_zero() || !is_shared(fault) {
            self.proved_nothing(ended.nonce);
            return None;
        }
        let spared = ended.spared.unwrap_or(Spared { since: now, times: 0 });
        let away = self.away.get_or_insert_with(|| Away::new(now, fault));
        away.met(now, ended, fault);
        let spares = now.saturating_duration_since(spared.since) <= self.patience;
        spares.then_some(Spared { times: spared.times + 1, ..spared })
    }

    /// An attempt ended with a verdict: if it began since, all is well again.
    pub(crate) fn passed(&mut self, nonce: &str, began: Instant) {
        let proves = |away: &Away| away.is_probe(nonce) || began > away.since;
        if self.away.as_ref().is_some_and(proves) {
            self.away = None;
        }
    }

    /// A probe that ended for another reason makes room for the next one.
    fn proved_nothing(&mut self, nonce: &str) {
        if let Some(away) = self.away.as_mut().filter(|away| away.is_probe(nonce)) {
            away.probe = None;
        }
    }

    /// What may begin now.
    pub(crate) fn room(&mut self, now: Instant) -> Room {
        let Some(away) = self.away.as_mut().filter(|away| away.is_outage()) else { return Room::Open };
        match &away.probe {
            Some(probe) if now < probe.began + away.proof() => Room::Shut(probe.began + away.proof()),
            Some(_) => {
                self.away = None;
                Room::Open
            }
            None if now < away.next_probe => Room::Shut(away.next_probe),
            None => Room::Probe,
        }
    }

    /// An attempt begins.
    pub(crate) fn begun(&mut self, now: Instant, nonce: &str) {
        if let Some(away) = self.away.as_mut().filter(|away| away.is_outage() && away.probe.is_none()) {
            away.probe = Some(Probe { nonce: nonce.to_owned(), began: now });
        }
    }

    /// What is away, if that is an outage.
    pub(crate) fn what(&self) -> Option<&Fault> {
        self.away.as_ref().filter(|away| away.is_outage()).map(|away| &away.fault)
    }

    /// What was away for longer than this worker waits.
    pub(crate) fn too_long(&self, now: Instant) -> Option<&Fault> {
        let away = self.away.as_ref().filter(|away| away.is_outage())?;
        (now.saturating_duration_since(away.since) > self.patience).then_some(&away.fault)
    }
}

impl Away {
    fn new(now: Instant, fault: &Fault) -> Self {
        Self {
            since: now,
            fault: fault.clone(),
            tasks: BTreeSet::new(),
            probe: None,
            next_probe: now,
            pause: FIRST_PAUSE,
            longest_probe: Duration::ZERO,
        }
    }

    fn met(&mut self, now: Instant, ended: Ended<'_>, fault: &Fault) {
        self.fault = fault.clone();
        self.tasks.insert(ended.task);
        if self.is_probe(ended.nonce) {
            self.probe = None;
            self.longest_probe = self.longest_probe.max(now.saturating_duration_since(ended.began));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        if self.probe.is_none() {
            self.next_probe = now + self.pause;
        }
    }

    fn is_outage(&self) -> bool {
        self.tasks.len() >= WITNESSES
    }

    fn is_probe(&self, nonce: &str) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.nonce == nonce)
    }

    /// How long a probe must live to have got through.
    fn proof(&self) -> Duration {
        (self.longest_probe * 2).clamp(SHORTEST_PROOF, LONGEST_PROOF)
    }
}

/// Whether a fault tells of something that other rollouts need too, and that is expected to come back.
fn is_shared(fault: &Fault) -> bool {
    let shared = matches!(fault.blame, Blame::Registry | Blame::Model | Blame::Daemon | Blame::Store);
    shared && fault.retry == Retry::Later
}

#[cfg(test)]
mod tests {
    use thresher_core::Phase;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1_800);

    /// Seconds since the beginning of a case.
    struct Case {
        zero: Instant,
        outage: Outage,
    }

    impl Case {
        fn new() -> Self {
            Self { zero: Instant::now(), outage: Outage::new(PATIENCE) }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.zero + Duration::from_secs(seconds)
        }

        /// An attempt of `task`, begun at `began`, meets a fault of the registry at `now`.
        fn meets(&mut self, now: u64, nonce: &str, task: u32, began: u64) -> Option<Spared> {
            let ended = Ended { nonce, task, began: self.at(began), spared: None };
            self.outage.faulted(self.at(now), ended, &fault(Blame::Registry, Retry::Later))
        }

        /// What may begin: `None` all, `Some(None)` a probe, else nothing before that second.
        fn room(&mut self, now: u64) -> Option<Option<u64>> {
            match self.outage.room(self.at(now)) {
                Room::Open => None,
                Room::Probe => Some(None),
                Room::Shut(until) => Some(Some((until - self.zero).as_secs())),
            }
        }
    }

    fn fault(blame: Blame, retry: Retry) -> Fault {
        Fault::new(blame, retry, Phase::Pull, "away")
    }

    #[test]
    fn only_what_is_shared_and_passes_is_spared() {
        for (blame, retry, spared) in [
            (Blame::Registry, Retry::Later, true),
            (Blame::Model, Retry::Later, true),
            (Blame::Daemon, Retry::Later, true),
            (Blame::Store, Retry::Later, true),
            (Blame::Registry, Retry::Never, false),
            (Blame::Daemon, Retry::Now, false),
            (Blame::Disk, Retry::Elsewhere, false),
            (Blame::Image, Retry::Never, false),
            (Blame::Node, Retry::Later, false),
            (Blame::Configuration, Retry::Never, false),
        ] {
            let mut case = Case::new();
            let ended = Ended { nonce: "a", task: 0, began: case.zero, spared: None };
            let found = case.outage.faulted(case.at(1), ended, &fault(blame, retry));
            assert_eq!(found.is_some(), spared, "{blame:?} {retry:?}");
        }
    }

    #[test]
    fn one_task_alone_stops_nobody() {
        let mut case = Case::new();
        for now in 1..40 {
            assert!(case.meets(now, &format!("n{now}"), 7, now - 1).is_some());
            assert_eq!((case.room(now), case.outage.what()), (None, None));
        }
    }

    #[test]
    fn two_tasks_make_an_outage_that_one_probe_after_the_other_ends() {
        let mut case = Case::new();
        case.meets(10, "a", 0, 5);
        case.meets(11, "b", 1, 5);
        assert!(case.outage.what().is_some());
        assert_eq!((case.room(11), case.room(13)), (Some(Some(13)), Some(None)));
        case.outage.begun(case.at(13), "c");
        // While the probe lives nothing else begins, and others that meet the outage move nothing.
        case.meets(14, "d", 2, 3);
        assert_eq!(case.room(14), Some(Some(73)));
        case.meets(15, "c", 3, 13);
        assert_eq!((case.room(15), case.room(19)), (Some(Some(19)), Some(None)));
        case.outage.begun(case.at(19), "e");
        case.outage.passed("e", case.at(19));
        assert_eq!((case.room(20), case.outage.what()), (None, None));
    }

    #[test]
    fn pauses_between_probes_double_up_to_a_minute() {
        let mut case = Case::new();
        case.meets(0, "a", 0, 0);
        case.meets(0, "b", 1, 0);
        let mut now = 0;
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(case.room(now), Some(Some(now + pause)));
            now += pause;
            let nonce = format!("probe-{now}");
            case.outage.begun(case.at(now), &nonce);
            case.meets(now, &nonce, 2, now);
        }
    }

    #[test]
    fn a_probe_that_outlives_those_before_it_has_got_through() {
        let mut case = Case::new();
        case.meets(0, "a", 0, 0);
        case.meets(0, "b", 1, 0);
        case.outage.begun(case.at(2), "c");
        assert_eq!(case.room(3), Some(Some(62)));
        // The first probe met the outage after 100 s, so 60 s prove nothing.
        case.meets(102, "c", 2, 2);
        case.outage.begun(case.at(110), "d");
        assert_eq!(case.room(200), Some(Some(310)));
        assert_eq!((case.room(310), case.outage.what()), (None, None));
    }

    #[test]
    fn what_began_before_proves_nothing() {
        let mut case = Case::new();
        case.meets(10, "a", 0, 5);
        case.meets(11, "b", 1, 5);
        case.outage.passed("old", case.at(9));
        assert!(case.outage.what().is_some());
        case.outage.passed("new", case.at(11));
        assert!(case.outage.what().is_none());
    }

    #[test]
    fn a_probe_that_ends_for_its_own_reason_proves_nothing() {
        let mut case = Case::new();
        case.meets(0, "a", 0, 0);
        case.meets(0, "b", 1, 0);
        case.outage.begun(case.at(2), "c");
        let ended = Ended { nonce: "c", task: 2, began: case.at(2), spared: None };
        let own = fault(Blame::Image, Retry::Never);
        assert_eq!(case.outage.faulted(case.at(3), ended, &own), None);
        assert_eq!((case.room(3), case.outage.what().is_some()), (Some(None), true));
    }

    #[test]
    fn patience_ends_for_the_worker_and_for_each_rollout() {
        let mut case = Case::new();
        case.meets(0, "a", 0, 0);
        case.meets(0, "b", 1, 0);
        assert!(case.outage.too_long(case.at(1_800)).is_none());
        assert!(case.outage.too_long(case.at(1_801)).is_some());
        let spared = Spared { since: case.at(100), times: 3 };
        let again = |now, case: &mut Case| {
            let ended = Ended { nonce: "c", task: 0, began: case.at(now), spared: Some(spared) };
            case.outage.faulted(case.at(now), ended, &fault(Blame::Model, Retry::Later))
        };
        assert_eq!(again(1_900, &mut case), Some(Spared { times: 4, ..spared }));
        assert_eq!(again(1_901, &mut case), None);
    }

    #[test]
    fn spared_rollouts_wait_longer_each_time() {
        let since = Instant::now();
        for (times, seconds) in [(1, 2), (2, 4), (5, 32), (6, 60), (40, 60)] {
            assert_eq!(Spared { since, times }.pause(), Duration::from_secs(seconds), "{times}");
        }
    }
}
