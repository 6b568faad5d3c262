//! The job key `durations`: what is known of how long rollouts take, from a JSON file or a former run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thresher_core::exit_code;
use thresher_core::plan::{Durations, TaskHandle};

use crate::exit::{Failure, WithCode as _};
use crate::job::{Job, nearest};
use crate::location::{Location, Patience};

/// Reads what the job names, for `tasks`; nothing is known if it names nothing.
pub(crate) async fn read(job: &Job, tasks: &[TaskHandle]) -> Result<Durations, Failure> {
    let Some(given) = &job.spec.durations else { return Ok(Durations::default()) };
    let is_url = given.contains("://");
    let path = if is_url { PathBuf::from(given) } else { job.path(given) };
    if is_url || path.is_dir() {
        return of_run(&path.display().to_string()).await;
    }
    if !path.is_file() {
        return Err(not_there(&path));
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| anyhow::anyhow!("failed to read {}: {error}", path.display()))
        .code(exit_code::USAGE)?;
    of_file(&path.display().to_string(), &text, tasks)
}

/// What the graded rollouts of a former run took, from start to end. A fault's time says nothing of the task.
async fn of_run(dir: &str) -> Result<Durations, Failure> {
    let rollouts = Location::parse(dir)?.find(Patience::Short).await?.reader().await?.rollouts().await?;
    let graded = rollouts.iter().filter(|rollout| rollout.outcome.reward().is_some());
    let seconds = graded.map(|rollout| {
        let timings = &rollout.timings;
        let took_us = timings.ended_at_us.saturating_sub(timings.started_at_us).max(0);
        (&rollout.instance_id, took_us as f64 / 1e6)
    });
    Ok(Durations::learned(seconds))
}

fn of_file(file: &str, text: &str, tasks: &[TaskHandle]) -> Result<Durations, Failure> {
    let entries: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|error| wrong(format!("{file}: {error}")))?;
    let mut seconds = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match value.as_f64().filter(|seconds| *seconds > 0.0) {
            Some(number) => seconds.push((key, number)),
            None => return Err(wrong(format!("{file}: `{key}`: {}", not_seconds(&value)))),
        }
    }
    let first = seconds.first().map(|(key, _)| key.clone());
    let durations = Durations::given(seconds);
    match first {
        Some(key) if !tasks.is_empty() && !tasks.iter().any(|task| durations.fits(&task.instance_id)) => {
            Err(fits_nothing(file, &key, tasks))
        }
        _ => Ok(durations),
    }
}

fn not_seconds(value: &Value) -> String {
    let meant = value.as_str().and_then(seconds_meant).or_else(|| value.as_f64().map(f64::abs));
    let meant = meant.filter(|seconds| *seconds > 0.0);
    let meant = meant.map(|seconds| format!("; did you mean `{seconds}`?")).unwrap_or_default();
    format!("{value} is not a number of seconds above 0{meant}")
}

/// The seconds of a text such as `90`, `90s`, `1.5m` or `2h`.
fn seconds_meant(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|at: char| at.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    number.trim().parse::<f64>().ok().map(|number| number * factor)
}

/// Most likely the file of another dataset: planning with it would silently guess everything.
fn fits_nothing(file: &str, key: &str, tasks: &[TaskHandle]) -> Failure {
    let ids = tasks.iter().map(|task| task.instance_id.as_str());
    let meant = nearest(key, ids).map(|id| format!("; did you mean `{id}`?")).unwrap_or_default();
    wrong(format!("{file}: no key names a selected task or its repository; the first is `{key}`{meant}"))
}

fn not_there(path: &Path) -> Failure {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let meant = nearest(&name, names.iter().map(String::as_str));
    let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    wrong(format!("durations: there is no {}{meant}", path.display()))
}

fn wrong(message: String) -> Failure {
    Failure::usage(message).hint(
        "`durations` is a JSON file {\"instance_id\": seconds, \"prefix*\": seconds}, or the directory of a former run",
    )
}

#[cfg(test)]
mod tests {
    use thresher_core::{InstanceId, Sha256Hex};

    use super::*;

    fn task(id: &str) -> TaskHandle {
        let (instance_id, row_sha256) = (InstanceId::new(id), Sha256Hex::of(b""));
        TaskHandle { instance_id, row_sha256, image: "i".into(), row: 0 }
    }

    #[test]
    fn a_file_gives_seconds_by_task_and_prefix() {
        let tasks = [task("a__a-1"), task("b__b-1")];
        let durations = of_file("d.json", r#"{"a__a-1": 61.4, "b__*": 7}"#, &tasks).unwrap();
        let seconds = tasks.each_ref().map(|task| durations.expected_s(&task.instance_id));
        assert_eq!(seconds, [61, 7]);
        assert_eq!(of_file("d.json", "{}", &tasks).unwrap(), Durations::default());
    }

    #[test]
    fn errors_name_file_key_and_what_was_meant() {
        for (text, wanted) in [
            (
                r#"{"a__a-1": "20m"}"#,
                "d.json: `a__a-1`: \"20m\" is not a number of seconds above 0; did you mean `1200`?",
            ),
            (r#"{"a__a-1": "90"}"#, "did you mean `90`?"),
            (r#"{"a__a-1": -5}"#, "-5 is not a number of seconds above 0; did you mean `5`?"),
            (r#"{"a__a-1": 0}"#, "d.json: `a__a-1`: 0 is not a number of seconds above 0"),
            (r#"{"a__a-1": null}"#, "null is not"),
            ("{\n\"a__a-1\" 1}", "d.json: expected `:` at line 2 column 10"),
            ("[1]", "d.json: invalid type"),
            (r#"{"c__c-1": 5}"#, "no key names a selected task or its repository; the first is `c__c-1`"),
            (r#"{"aa__a-1": 5}"#, "did you mean `a__a-1`?"),
        ] {
            let failure = format!("{:?}", of_file("d.json", text, &[task("a__a-1")]).unwrap_err());
            assert!(failure.replace("\\\"", "\"").contains(wanted), "{wanted}\n{failure}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_the_nearest_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("durations.json"), "{}").unwrap();
        let failure = format!("{:?}", not_there(&dir.path().join("duration.json")));
        assert!(failure.contains("did you mean `durations.json`?"), "{failure}");
    }
}
