//! The same model where each worker has a fixed, contiguous part of the dataset.

use std::time::Duration;

use super::{Fleet, FleetReport, PULL, Workload};

/// What comes of the workload if each worker is given as many images as the others, in the dataset's order. Nothing is
/// lost to claims, and an image is pulled when its first rollout's turn comes.
pub fn fixed_shards(workload: &Workload, fleet: Fleet) -> FleetReport {
    let workers = fleet.workers as usize;
    let mut ends = Vec::new();
    for worker in 0..workers {
        let images = worker * workload.images() / workers..(worker + 1) * workload.images() / workers;
        let mut slots = vec![Duration::ZERO; fleet.slots as usize];
        for image in images {
            let mut there = None;
            for rollout in workload.rollouts(image) {
                let slot = slots.iter_mut().min().expect("a worker has a slot");
                let there = *there.get_or_insert(*slot + PULL);
                *slot = there.max(*slot) + rollout;
                ends.push(*slot);
            }
        }
    }
    FleetReport::of(workload, fleet, workload.images() as u64, ends)
}
