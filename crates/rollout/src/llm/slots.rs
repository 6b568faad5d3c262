//! How many model calls are in flight: a limit that adapts to what the endpoint bears.
//!
//! Additive increase, multiplicative decrease: a 429 or 503 halves the limit, a success raises it by one part of
//! itself, never above the configured one. Calls that began before a cut do not cut again, so that one overload,
//! seen by many calls, counts once.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The slots of one client.
pub(super) struct Slots {
    state: Mutex<State>,
    freed: Notify,
}

/// Plain counting, without waiting.
#[derive(Clone, Debug)]
struct State {
    limit: f64,
    /// The configured limit; infinite if there is none.
    most: f64,
    in_flight: u32,
    cuts: u64,
}

impl State {
    fn take(&mut self) -> bool {
        // A limit of 3.9 lets three calls through.
        let free = f64::from(self.in_flight) + 1.0 <= self.limit;
        self.in_flight += u32::from(free);
        free
    }

    fn grow(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(self.most);
    }

    fn cut(&mut self, cuts_at_start: u64) {
        if cuts_at_start == self.cuts {
            self.cuts += 1;
            self.limit = (self.limit.min(f64::from(self.in_flight)) / 2.0).max(1.0);
        }
    }
}

/// One call in flight; dropping it frees the slot.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    cuts_at_start: u64,
}

impl Slots {
    /// Makes the slots; `most` is at least 1.
    pub(super) fn new(most: Option<u32>) -> Self {
        let most = most.map_or(f64::INFINITY, f64::from);
        let state = State { limit: most, most, in_flight: 0, cuts: 0 };
        Self { state: Mutex::new(state), freed: Notify::new() }
    }

    /// Waits for a free slot.
    pub(super) async fn take(&self) -> Slot<'_> {
        loop {
            // Registered before looking, so that a slot freed in between wakes this call.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(slot) = self.try_take() {
                return slot;
            }
            freed.await;
        }
    }

    fn try_take(&self) -> Option<Slot<'_>> {
        let mut state = self.lock();
        // Made only where one is free: dropping a slot gives it back.
        state.take().then(|| Slot { slots: self, cuts_at_start: state.cuts })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change to the state is one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// The endpoint answered.
    pub(super) fn succeeded(&self) {
        self.slots.lock().grow();
        self.slots.freed.notify_one();
    }

    /// The endpoint asked for less load.
    pub(super) fn overloaded(&self) {
        self.slots.lock().cut(self.cuts_at_start);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.lock().in_flight -= 1;
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_overload_cuts_once_and_successes_raise_the_limit_again() {
        let slots = Slots::new(Some(8));
        let held: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        assert_eq!(held.len(), 8);
        held.iter().for_each(Slot::overloaded);
        assert!((slots.lock().limit - 4.0).abs() < 1e-9);
        drop(held);
        let held: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        assert_eq!(held.len(), 4);
        held[0].overloaded();
        assert!((slots.lock().limit - 2.0).abs() < 1e-9);
        (0..1_000).for_each(|_| held[0].succeeded());
        assert!((slots.lock().limit - 8.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_limit_an_overload_makes_one_and_it_stays_above_zero() {
        let slots = Slots::new(None);
        let held: Vec<_> = (0..6).filter_map(|_| slots.try_take()).collect();
        assert_eq!(held.len(), 6);
        held[0].overloaded();
        assert!(slots.try_take().is_none());
        drop(held);
        for _ in 0..10 {
            let slot = slots.try_take().unwrap();
            slot.overloaded();
        }
        assert!(slots.try_take().is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_waiting_call_gets_its_turn() {
        let (slots, most) = (Arc::new(Slots::new(Some(3))), Arc::new(AtomicU32::new(0)));
        let calls = (0..200).map(|_| {
            let (slots, most) = (slots.clone(), most.clone());
            tokio::spawn(async move {
                let _slot = slots.take().await;
                let in_flight = slots.lock().in_flight;
                most.fetch_max(in_flight, Ordering::Relaxed);
                tokio::task::yield_now().await;
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        assert_eq!((most.load(Ordering::Relaxed), slots.lock().in_flight), (3, 0));
    }
}
