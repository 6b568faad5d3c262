//! How busy a fleet is whose workers claim shards, over the real planning and claim code in virtual time. The whole table,
//! over more seeds and larger fleets, is printed by `scripts/bench-fleet`.

use thresher_testkit::sim::{Fleet, Knowledge, Workload, fixed_shards, play_fleet};

/// 25 workers of 8 slots, where a former run tells how long tasks take.
#[test]
fn two_hundred_slots_are_busy_and_each_image_is_pulled_once() {
    let fleet = Fleet { workers: 25, slots: 8 };
    let workload = Workload::of(0);
    let claimed = play_fleet(&workload, fleet, Knowledge::FormerRun);
    let fixed = fixed_shards(&workload, fleet);
    assert!(claimed.efficiency >= 0.97, "{claimed:?}");
    assert!(claimed.pulls_per_image <= 1.02, "{claimed:?}");
    assert!(claimed.efficiency > fixed.efficiency + 0.3, "{claimed:?} against {fixed:?}");
}

/// Otherwise the test above says nothing of a dataset as it should be.
#[test]
fn the_model_is_what_it_says() {
    for seed in 0..8 {
        let workload = Workload::of(seed);
        let rollouts: Vec<f64> = (0..workload.images())
            .flat_map(|image| workload.rollouts(image))
            .map(|rollout| rollout.as_secs_f64() / 60.0)
            .collect();
        assert_eq!((workload.images(), rollouts.len()), (2_400, 9_600));
        let mean = rollouts.iter().sum::<f64>() / rollouts.len() as f64;
        assert!((mean - 9.4).abs() < 0.01, "seed {seed}: {mean}");
        assert!(rollouts.iter().all(|minutes| (0.999..60.001).contains(minutes)), "seed {seed}");
        for (workers, most) in [(25, 0.8), (100, 0.7)] {
            let fixed = fixed_shards(&workload, Fleet { workers, slots: 8 });
            assert!(fixed.efficiency < most, "seed {seed}: {fixed:?}");
        }
    }
}
