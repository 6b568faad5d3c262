//! Prints how busy fleets are, in virtual time: `bench_fleet [SEEDS] [SLOTS]`, 8 seeds unless told, two at a time.
//! `scripts/bench-fleet` runs it.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, iter, thread};

use thresher_testkit::sim::{Fleet, FleetReport, Knowledge, Workload, fixed_shards, play_fleet};

/// Workers of 8 slots each.
const SLOTS: u32 = 8;
/// Seeds at a time. A play is one thread's, and holds everything that its rollouts leave in memory.
const THREADS: usize = 2;

fn main() {
    let mut numbers = env::args().skip(1).map(|text| text.parse().expect("numbers"));
    let seeds: u64 = numbers.next().unwrap_or(8);
    let slots: Option<u64> = numbers.next();
    let sizes = slots.map_or_else(|| vec![200, 800], |slots| vec![slots]);
    println!(
        "| slots | who gets what | efficiency: mean, least | pulls per image | last 5 % of the rollouts, min |"
    );
    println!("|---|---|---|---|---|");
    for slots in sizes {
        let fleet = Fleet { workers: slots as u32 / SLOTS, slots: SLOTS };
        row(fleet, seeds, "no fleet is better than", |workload| bound(workload, fleet));
        for (known, knowledge) in [
            ("each image's own duration, which chance then changes", Knowledge::Images),
            ("four rollouts of each image, of a former run", Knowledge::FormerRun),
            ("means of repositories", Knowledge::Repositories),
            ("nothing", Knowledge::Nothing),
        ] {
            let who = format!("claims; known: {known}");
            row(fleet, seeds, &who, |workload| play_fleet(workload, fleet, knowledge));
        }
        row(fleet, seeds, "fixed contiguous shards", |workload| fixed_shards(workload, fleet));
    }
}

/// The longest rollout begins at once, and everything else fits beside it.
fn bound(workload: &Workload, fleet: Fleet) -> FleetReport {
    let took = (workload.total() / (fleet.workers * fleet.slots)).max(workload.longest());
    let slots_s = f64::from(fleet.workers * fleet.slots) * took.as_secs_f64();
    let efficiency = workload.total().as_secs_f64() / slots_s;
    FleetReport { efficiency, pulls_per_image: 1.0, took, last_twentieth: took / 20 }
}

fn row(fleet: Fleet, seeds: u64, who: &str, play: impl Fn(&Workload) -> FleetReport + Sync) {
    let reports = of_seeds(seeds, &play);
    let mean = |of: fn(&FleetReport) -> f64| reports.iter().map(of).sum::<f64>() / reports.len() as f64;
    let least = reports.iter().map(|report| report.efficiency).fold(1.0, f64::min);
    println!(
        "| {} | {who} | {:.1} %, {:.1} % | {:.3} | {:.0} |",
        fleet.workers * fleet.slots,
        mean(|report| report.efficiency) * 100.0,
        least * 100.0,
        mean(|report| report.pulls_per_image),
        mean(|report| report.last_twentieth.as_secs_f64() / 60.0),
    );
}

/// What comes of each seed.
fn of_seeds(seeds: u64, play: &(impl Fn(&Workload) -> FleetReport + Sync)) -> Vec<FleetReport> {
    let next = AtomicU64::new(0);
    let some = || {
        let seeds = iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds));
        seeds.map(|seed| play(&Workload::of(seed))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no play panics")).collect()
    })
}
