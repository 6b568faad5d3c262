//! How long rollouts take: by repository, by image, and by chance.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::plan::{Durations, Plan, Sizing, TaskHandle};
use thresher_core::{InstanceId, RolloutId, RunSpec, Sha256Hex};

const IMAGES: usize = 2_400;
const REPOSITORIES: usize = 13;
const SAMPLES: usize = 4;
/// Minutes that a rollout takes in the mean, after the limits.
const MEAN_MIN: f64 = 9.4;
const SHORTEST_MIN: f64 = 1.0;
const LONGEST_MIN: f64 = 60.0;

/// Spreads of the logarithms: how much repositories, the images of one, and the samples of one image differ.
const BY_REPOSITORY: f64 = 0.5;
const BY_IMAGE: f64 = 0.6;
const BY_SAMPLE: f64 = 0.4;

/// What the planner knows of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// What a rollout of each image takes in the middle: everything but chance. No planner knows so much.
    Images,
    /// What a former run of the same tasks took: other samples, of the same distribution.
    FormerRun,
    /// The mean of each repository.
    Repositories,
    /// Nothing.
    Nothing,
}

/// A dataset with one task to an image, and what each of its rollouts takes. The tasks of a repository are next to each
/// other.
#[derive(Clone, Debug)]
pub struct Workload {
    seed: u64,
    /// Repository of each image.
    repositories: Vec<usize>,
    /// Minutes of each image without chance.
    middles: Vec<f64>,
    /// Minutes of each sample of each image.
    minutes: Vec<[f64; SAMPLES]>,
    /// Those of a former run.
    former: Vec<[f64; SAMPLES]>,
}

impl Workload {
    /// The workload of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let repositories = repositories(&mut random);
        let of_repository: Vec<f64> = (0..REPOSITORIES).map(|_| factor(&mut random, BY_REPOSITORY)).collect();
        let of_image = repositories.iter().map(|at| of_repository[*at] * factor(&mut random, BY_IMAGE));
        let of_image: Vec<f64> = of_image.collect();
        let mut draw = || -> Vec<[f64; SAMPLES]> {
            of_image
                .iter()
                .map(|image| [(); SAMPLES].map(|()| image * factor(&mut random, BY_SAMPLE)))
                .collect()
        };
        let (minutes, former) = (draw(), draw());
        let scale = scale(&minutes);
        let middles = of_image.iter().map(|minutes| limited(minutes * scale)).collect();
        Self { seed, repositories, middles, minutes: scaled(&minutes, scale), former: scaled(&former, scale) }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many images there are.
    pub fn images(&self) -> usize {
        self.minutes.len()
    }

    /// What all rollouts take together.
    pub fn total(&self) -> Duration {
        self.minutes.iter().flatten().map(|minutes| duration(*minutes)).sum()
    }

    /// What the longest rollout takes: no fleet is faster.
    pub fn longest(&self) -> Duration {
        duration(self.minutes.iter().flatten().copied().fold(0.0, f64::max))
    }

    /// What each rollout of an image takes, by the image's place in the dataset.
    pub fn rollouts(&self, image: usize) -> [Duration; SAMPLES] {
        self.minutes[image].map(duration)
    }

    pub(super) fn spec(&self) -> RunSpec {
        let json = format!(r#"{{"dataset": {{"path": "tasks.jsonl"}}, "samples": {SAMPLES}}}"#);
        let mut spec: RunSpec = serde_json::from_str(&json).expect("a spec of required keys alone is whole");
        // The log is not what is measured here.
        spec.fleet.pack_s = 6 * 3_600;
        spec
    }

    /// The plan as the planner makes it who knows so much.
    pub fn plan(&self, knowledge: Knowledge) -> Plan {
        let sizing = Sizing { durations: self.durations(knowledge), ..Sizing::default() };
        let tasks = (0..self.images()).map(|image| self.task(image)).collect();
        Plan::sized(tasks, Vec::new(), 0..SAMPLES as u32, &sizing, |task, sample| {
            let text = format!("{}-{sample}", task.instance_id);
            RolloutId::new(&Sha256Hex::of(text.as_bytes()).as_str()[..32])
        })
    }

    fn durations(&self, knowledge: Knowledge) -> Durations {
        let names: Vec<InstanceId> = (0..self.images()).map(|image| self.name(image)).collect();
        let former = || names.iter().zip(&self.former);
        match knowledge {
            Knowledge::Nothing => Durations::default(),
            Knowledge::Images => Durations::given(
                names.iter().zip(&self.middles).map(|(name, minutes)| (name.to_string(), minutes * 60.0)),
            ),
            Knowledge::FormerRun => Durations::learned(
                former()
                    .flat_map(|(name, minutes)| minutes.iter().map(move |minutes| (name, minutes * 60.0))),
            ),
            Knowledge::Repositories => {
                let mean = |repository| {
                    let of = self.former.iter().zip(&self.repositories).filter(|(_, at)| **at == repository);
                    let (sum, count) = of.fold((0.0, 0), |(sum, count), (minutes, _)| {
                        (sum + minutes.iter().sum::<f64>(), count + SAMPLES)
                    });
                    (format!("{}*", repository_name(repository)), sum * 60.0 / count as f64)
                };
                Durations::given((0..REPOSITORIES).filter(|at| self.repositories.contains(at)).map(mean))
            }
        }
    }

    fn name(&self, image: usize) -> InstanceId {
        InstanceId::new(format!("{}-{image}", repository_name(self.repositories[image])))
    }

    fn task(&self, image: usize) -> TaskHandle {
        let instance_id = self.name(image);
        TaskHandle {
            row_sha256: Sha256Hex::of(instance_id.as_str().as_bytes()),
            image: format!("registry/eval.{instance_id}:latest"),
            instance_id,
            row: image as u64,
        }
    }
}

fn repository_name(repository: usize) -> String {
    format!("owner__repo{}", char::from(b'a' + repository as u8))
}

/// The repository of each image: unequal shares, next to each other.
fn repositories(random: &mut StdRng) -> Vec<usize> {
    let weights: Vec<f64> = (0..REPOSITORIES).map(|_| factor(random, 0.8)).collect();
    let total: f64 = weights.iter().sum();
    let ends: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        })
        .collect();
    let of = |image| ends.iter().position(|end| image as f64 / (IMAGES as f64) < *end);
    (0..IMAGES).map(|image| of(image).unwrap_or(REPOSITORIES - 1)).collect()
}

/// The factor that brings the mean to its place, limits included; found by halving.
fn scale(minutes: &[[f64; SAMPLES]]) -> f64 {
    let (mut low, mut high) = (0.0, 1_000.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        let sum: f64 = scaled(minutes, middle).iter().flatten().sum();
        if sum / ((minutes.len() * SAMPLES) as f64) < MEAN_MIN { low = middle } else { high = middle }
    }
    high
}

fn scaled(minutes: &[[f64; SAMPLES]], scale: f64) -> Vec<[f64; SAMPLES]> {
    minutes.iter().map(|samples| samples.map(|minutes| limited(minutes * scale))).collect()
}

fn limited(minutes: f64) -> f64 {
    minutes.clamp(SHORTEST_MIN, LONGEST_MIN)
}

/// Lognormal, with 1 in the middle.
fn factor(random: &mut StdRng, spread: f64) -> f64 {
    // Box and Muller's way to the normal distribution; the first number must not be 0.
    let (a, b) = (1.0 - random.random::<f64>(), random.random::<f64>());
    (spread * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()).exp()
}

fn duration(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}
