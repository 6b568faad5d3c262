//! Job files: YAML to a [`RunSpec`], with errors that name the line and the nearest valid key, and flags over it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize as _;
use thresher_core::exit_code;
use thresher_core::run_spec::{BackendName, DatasetSpec, ModelSpec, RunSpec, ShuffleSpec};

use crate::args::RunArgs;
use crate::exit::{Failure, WithCode as _};

/// A job as it will be run: the spec with all flags applied, and the folder that its paths are relative to.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) spec: RunSpec,
    pub(crate) base: PathBuf,
}

impl Job {
    /// Reads the job file, if one is given, and applies the flags.
    pub(crate) fn from_args(args: &RunArgs) -> Result<Self, Failure> {
        let mut job = match &args.job {
            Some(path) => Self::read(path)?,
            None => Self::from_dataset(args)?,
        };
        job.apply(args)?;
        Ok(job)
    }

    /// Reads a job file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read job file {}", path.display()))
            .code(exit_code::USAGE)?;
        let mut spec = parse(&text, &path.display().to_string())?;
        if spec.name.is_none() {
            spec.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        }
        let base =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Ok(Self { spec, base: base.to_owned() })
    }

    fn from_dataset(args: &RunArgs) -> Result<Self, Failure> {
        let Some(dataset) = &args.dataset else {
            return Err(Failure::usage("neither a job file nor a dataset is given")
                .hint("thresher run JOB.yaml, or thresher run --dataset PATH --model NAME --base-url URL"));
        };
        let name = Path::new(dataset).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let dataset = serde_json::json!({ "path": dataset });
        let dataset = DatasetSpec::deserialize(dataset).expect("a dataset spec needs only its path");
        let spec = serde_json::json!({ "dataset": dataset, "name": name });
        let spec = RunSpec::deserialize(spec).expect("a run spec needs only its dataset");
        Ok(Self { spec, base: PathBuf::from(".") })
    }

    fn apply(&mut self, args: &RunArgs) -> Result<(), Failure> {
        self.apply_dataset(args);
        self.apply_model(args);
        let spec = &mut self.spec;
        if let Some(agent) = &args.agent {
            spec.agent.name = named(agent, "agent")?;
        }
        if let Some(backend) = &args.backend {
            spec.sandbox.backend = named(backend, "backend")?;
        }
        if args.no_isolation {
            spec.sandbox.backend = BackendName::Process;
        }
        spec.concurrency = args.concurrency.or(spec.concurrency);
        spec.samples = args.samples.unwrap_or(spec.samples);
        if let Some(images) = &args.images {
            spec.sandbox.images = Some(absolute(images));
        }
        if spec.samples == 0 {
            return Err(Failure::usage("samples must be at least 1"));
        }
        if spec.concurrency == Some(0) {
            return Err(Failure::usage("concurrency must be at least 1"));
        }
        if spec.shard_s == 0 {
            return Err(Failure::usage("shard_s must be at least 1 second"));
        }
        Ok(())
    }

    fn apply_dataset(&mut self, args: &RunArgs) {
        let select = &mut self.spec.dataset.select;
        select.start = args.start.unwrap_or(select.start);
        select.limit = args.limit.or(select.limit);
        if !args.only.is_empty() {
            select.only.clone_from(&args.only);
        }
        if args.filter.is_some() {
            select.filter.clone_from(&args.filter);
        }
        if let Some(seed) = args.shuffle {
            select.shuffle = Some(ShuffleSpec { seed });
        }
        if let Some(dataset) = &args.dataset {
            self.spec.dataset.path =
                if dataset.contains("://") { dataset.clone() } else { absolute(dataset) };
        }
    }

    fn apply_model(&mut self, args: &RunArgs) {
        let wanted = args.model.is_some() || args.base_url.is_some() || args.replay.is_some();
        if !wanted && self.spec.model.is_none() {
            return;
        }
        let model = self.spec.model.get_or_insert_with(|| empty_model("replay"));
        if let Some(name) = &args.model {
            model.name.clone_from(name);
        }
        if args.base_url.is_some() {
            model.base_url.clone_from(&args.base_url);
            model.replay = None;
        }
        if args.api_key_env.is_some() {
            model.api_key_env.clone_from(&args.api_key_env);
        }
        if let Some(replay) = &args.replay {
            model.replay = Some(absolute(replay));
        }
        if args.temperature.is_some() {
            model.sampling.temperature = args.temperature;
        }
    }

    /// A path of the job file, from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }
}

fn empty_model(name: &str) -> ModelSpec {
    ModelSpec::deserialize(serde_json::json!({ "name": name })).expect("a model spec needs only its name")
}

/// A path given on the command line is relative to the working directory, not to the job file.
fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Parses a job file's text.
fn parse(text: &str, file: &str) -> Result<RunSpec, Failure> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        let message = first_line(&error.to_string());
        let nearest =
            nearest_of_message(&message).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        Failure::usage(format!("{file}{place}: {message}{nearest}"))
            .hint("jobs/schema.json describes every key; `thresher schema` prints it")
    })
}

/// The message without its position, which is given in the form that editors understand, and without its picture.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((at, rest)) if at.starts_with("line ") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// For "unknown field `x`, expected one of a, b": the expected word nearest to `x`.
fn nearest_of_message(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown ")?;
    let (_, rest) = rest.split_once('`')?;
    let (found, rest) = rest.split_once('`')?;
    let (_, expected) = rest.split_once("expected ")?;
    let expected = expected.trim_start_matches("one of ").trim_start_matches("there are no fields");
    nearest(found, expected.split(", ").map(|word| word.trim_matches('`')))
}

/// The word nearest to `found`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(found: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    words
        .map(|word| (strsim::jaro_winkler(found, word), word))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word.to_owned())
}

/// Parses a flag's value as one of an enum's names.
pub(crate) fn named<T: serde::de::DeserializeOwned>(value: &str, flag: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(value.to_owned())).map_err(|error| {
        let message = error.to_string();
        let nearest = nearest_of_message(&message).map(|word| format!("; did you mean `{word}`?"));
        Failure::usage(format!("--{flag}: {message}{}", nearest.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        format!("{:?}", parse(text, "job.yaml").unwrap_err())
    }

    #[test]
    fn errors_name_file_line_and_nearest_key() {
        for (text, wanted) in [
            ("dataset: {path: a}\nsample: 2\n", "job.yaml:2:1: unknown field `sample`"),
            ("dataset: {path: a}\nsample: 2\n", "did you mean `samples`?"),
            ("dataset:\n  path: a\n  familly: inline\n", "job.yaml:3:3"),
            ("dataset:\n  path: a\n  familly: inline\n", "did you mean `family`?"),
            ("dataset: {path: a}\nsandbox:\n  backend: dockr\n", "did you mean `docker`?"),
            ("name: x\n", "missing field `dataset`"),
        ] {
            let error = error(text);
            assert!(error.contains(wanted), "{wanted}\n{error}");
        }
    }

    #[test]
    fn flags_override_the_file() {
        let args = RunArgs {
            dataset: Some("/data/x.jsonl".into()),
            model: Some("m".into()),
            samples: Some(4),
            no_isolation: true,
            ..RunArgs::default()
        };
        let job = Job::from_args(&args).unwrap();
        assert_eq!(job.spec.samples, 4);
        assert_eq!(job.spec.sandbox.backend, BackendName::Process);
        assert_eq!(job.spec.model.unwrap().name, "m");
        assert_eq!(job.spec.name.as_deref(), Some("x"));
    }

    #[test]
    fn every_shipped_job_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let jobs: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
        assert!(jobs.len() >= 3, "{jobs:?}");
        for path in jobs {
            let job = Job::read(&path).unwrap_or_else(|failure| panic!("{}: {failure:?}", path.display()));
            assert!(job.spec.name.is_some());
        }
    }

    #[test]
    fn nothing_near_is_no_suggestion() {
        assert_eq!(nearest("zzz", ["samples", "model"].into_iter()), None);
    }
}
