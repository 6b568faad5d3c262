//! Prints how busy fleets are, in virtual time: `bench_fleet [SEEDS]`, 8 seeds unless told. `scripts/bench-fleet` runs it.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::env;

use thresher_testkit::sim::{Fleet, FleetReport, Knowledge, Workload, fixed_shards, play_fleet};

fn main() {
    let seeds: u64 = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(8);
    let fleets = [25, 100].map(|workers| Fleet { workers, slots: 8 });
    println!(
        "| slots | who gets what | efficiency: mean, least | pulls per image | last 5 % of the rollouts, min |"
    );
    println!("|---|---|---|---|---|");
    for fleet in fleets {
        row(fleet, seeds, "no fleet is better than", |workload| bound(workload, fleet));
        row(fleet, seeds, "claims, durations of a former run known", |workload| {
            play_fleet(workload, fleet, Knowledge::FormerRun)
        });
        row(fleet, seeds, "claims, means of repositories known", |workload| {
            play_fleet(workload, fleet, Knowledge::Repositories)
        });
        row(fleet, seeds, "claims, nothing known", |workload| {
            play_fleet(workload, fleet, Knowledge::Nothing)
        });
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

fn row(fleet: Fleet, seeds: u64, who: &str, play: impl Fn(&Workload) -> FleetReport) {
    let reports: Vec<FleetReport> = (0..seeds).map(|seed| play(&Workload::of(seed))).collect();
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
