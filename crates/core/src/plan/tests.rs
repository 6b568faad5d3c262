//! Plans as tables: what is cut where, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::id::RolloutKey;

fn task(id: &str, image: &str) -> TaskHandle {
    let (instance_id, row_sha256) = (InstanceId::new(id), Sha256Hex::of(id.as_bytes()));
    TaskHandle { instance_id, row_sha256, image: image.into(), row: 0 }
}

fn rollout_id(task: &TaskHandle, sample: u32) -> RolloutId {
    let sha = Sha256Hex::of(b"");
    RolloutId::derive(&RolloutKey {
        instance_id: &task.instance_id,
        row_sha256: &task.row_sha256,
        agent_sha256: &sha,
        model_sha256: &sha,
        sample,
    })
}

fn sizing(shard_s: u32, seconds: &[(&str, u32)]) -> Sizing {
    let entries = seconds.iter().map(|(id, seconds)| ((*id).to_owned(), f64::from(*seconds)));
    Sizing { shard_s, durations: Durations::given(entries) }
}

fn plan(tasks: &[(&str, &str)], samples: Range<u32>, sizing: &Sizing) -> Plan {
    let tasks = tasks.iter().map(|(id, image)| task(id, image)).collect();
    Plan::sized(tasks, vec![], samples, sizing, rollout_id)
}

/// Shards as texts: `a0 c0 a1 c1` are samples 0 and 1 of tasks a and c.
fn shape(plan: &Plan) -> Vec<String> {
    let name = |rollout: &PlannedRollout| {
        format!("{}{}", plan.tasks[rollout.task as usize].instance_id, rollout.sample)
    };
    let texts = |shard: &Shard| shard.rollouts.iter().map(name).collect::<Vec<_>>().join(" ");
    plan.shards.iter().map(texts).collect()
}

#[test]
fn shards_are_of_one_image_and_about_as_long_as_told() {
    let abc = [("a", "x"), ("b", "y"), ("c", "x")];
    for (tasks, samples, sizing, shards) in [
        // All samples of the tasks of one image, where they fit; sample by sample.
        (&abc[..], 2, Sizing::default(), vec!["a0 c0 a1 c1", "b0 b1"]),
        // The samples of a task stay together where they fit.
        (&abc, 3, Sizing::default(), vec!["a0 a1 a2", "c0 c1 c2", "b0 b1 b2"]),
        // Where they do not, they are cut into nearly equal parts.
        (&abc[..1], 10, Sizing::default(), vec!["a0 a1 a2", "a3 a4 a5", "a6 a7 a8 a9"]),
        // A rollout that takes longer than a shard is a shard.
        (&abc[..1], 2, sizing(60, &[("a", 61)]), vec!["a0", "a1"]),
        (&abc[..1], 2, sizing(0, &[("a", 61)]), vec!["a0", "a1"]),
        (&abc[..1], 2, sizing(122, &[("a", 61)]), vec!["a0 a1"]),
        (&abc, 0, Sizing::default(), vec![]),
    ] {
        assert_eq!(shape(&plan(tasks, 0..samples, &sizing)), shards);
    }
}

#[test]
fn what_takes_longest_begins_first_and_shared_layers_stay_together() {
    let tasks = [
        ("short", "r/p-1:latest"),
        ("long", "r/q-1:latest"),
        ("like-q", "r/q-2:latest"),
        ("like-p", "r/p-2:latest"),
        ("other", "r/r-1:latest"),
        ("long-too", "r/q-1:latest"),
        ("slow-of-p", "r/p-3:latest"),
    ];
    let seconds = [
        ("short", 100),
        ("long", 900),
        ("long-too", 90),
        ("like-q", 101),
        ("like-p", 105),
        ("other", 110),
        ("slow-of-p", 400),
    ];
    let plan = plan(&tasks, 0..1, &sizing(900, &seconds));
    // Within one bucket (100 to 111 seconds) images go by repository, the longest first.
    assert_eq!(shape(&plan), ["long0", "long-too0", "slow-of-p0", "like-p0", "short0", "like-q0", "other0"]);
    let mut again = plan.clone();
    again.sort_shards();
    assert_eq!(again, plan, "sorting what is in order changes nothing");
}

#[test]
fn an_extension_keeps_what_is_planned_and_cuts_only_what_is_new() {
    let (few, more) = ([("a", "x"), ("b", "y")], [("a", "x"), ("b", "y"), ("c", "x")]);
    let first = plan(&few, 0..3, &Sizing::default());
    let grown = plan(&more, 0..6, &Sizing::default());
    let known: HashSet<&RolloutId> = first.rollouts().map(|rollout| &rollout.rollout_id).collect();
    let added = Plan { shards: grown.shards_beyond(known, SHARD_S), ..grown.clone() };
    // The first of the added shards would begin with a0, as the first of all did, if what is known were cut again.
    assert_eq!(shape(&added), ["a3 a4 a5", "c0 c1 c2", "c3 c4 c5", "b3 b4 b5"]);
    let shards: BTreeSet<&ShardId> =
        first.shards.iter().chain(&added.shards).map(|shard| &shard.shard_id).collect();
    assert_eq!(shards.len(), first.shards.len() + added.shards.len());
    let all: BTreeSet<&RolloutId> =
        first.rollouts().chain(added.rollouts()).map(|rollout| &rollout.rollout_id).collect();
    assert_eq!(all, grown.rollouts().map(|rollout| &rollout.rollout_id).collect());
    assert_eq!(first.shards_beyond(HashSet::new(), SHARD_S), first.shards, "cutting again changes nothing");
}

#[test]
fn every_rollout_is_in_one_shard_whatever_the_durations() {
    let names: Vec<(String, String)> = (0..200)
        .map(|at| (format!("o__r{}-{at}", at % 7), format!("i/r{}-{}:latest", at % 7, at / 3)))
        .collect();
    let tasks: Vec<(&str, &str)> = names.iter().map(|(id, image)| (id.as_str(), image.as_str())).collect();
    let seconds: Vec<(&str, u32)> =
        tasks.iter().enumerate().map(|(at, (id, _))| (*id, (at as u32 * 7919) % 3_000 + 1)).collect();
    let plan = plan(&tasks, 0..5, &sizing(SHARD_S, &seconds));
    let mut images: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last = "";
    for shard in &plan.shards {
        let of: BTreeSet<&str> =
            shard.rollouts.iter().map(|rollout| plan.tasks[rollout.task as usize].image.as_str()).collect();
        assert_eq!(of.len(), 1);
        assert!(shard.rollouts.len() == 1 || shard.expected_s() <= SHARD_S.into());
        let image = of.into_iter().next().unwrap();
        *images.entry(image).or_default() += usize::from(image != last);
        last = image;
    }
    assert!(images.values().all(|times| *times == 1), "the shards of an image follow each other: {images:?}");
    let ids: BTreeSet<&RolloutId> = plan.rollouts().map(|rollout| &rollout.rollout_id).collect();
    assert_eq!((ids.len(), plan.rollout_count()), (1_000, 1_000));
    assert_eq!(plan.expected_s(), seconds.iter().map(|(_, seconds)| u64::from(*seconds) * 5).sum::<u64>());
}
