//! `thresher show`: one trajectory, readable.

use std::fmt::Write as _;

use thresher_core::{Outcome, RolloutId, RolloutRecord, exit_code};
use thresher_ledger::Reader;

use super::{print, print_json};
use crate::args::ShowArgs;
use crate::exit::Failure;
use crate::location::{Location, Patience};
use crate::table::duration;

/// Lines of an observation that are shown at each end, unless it is asked for whole.
const ENDS: usize = 12;

/// Prints the trajectory.
pub(super) async fn run(args: ShowArgs) -> Result<i32, Failure> {
    let reader = Location::parse(&args.run)?.find(Patience::Short).await?.reader().await?;
    let id = find(&reader, &args.rollout).await?;
    let record = reader.record(&id).await?;
    let record = record.ok_or_else(|| anyhow::anyhow!("rollout {id} has left no record yet"))?;
    if args.json {
        print_json(&record)?
    } else {
        print(&text(&record, args.full))?
    }
    Ok(exit_code::OK)
}

/// Finds the rollout that is meant: by id, prefix of an id, or instance id with an optional sample.
async fn find(reader: &Reader, wanted: &str) -> Result<RolloutId, Failure> {
    let mut matching = reader.matching(wanted);
    if matching.is_empty() {
        let (instance, sample) = match wanted.rsplit_once('#') {
            Some((instance, sample)) => (instance, sample.parse().ok()),
            None => (wanted, None),
        };
        let rollouts = reader.rollouts().await?;
        let of_instance = rollouts.iter().filter(|rollout| rollout.instance_id.as_str() == instance);
        matching = of_instance
            .filter(|rollout| sample.is_none_or(|sample: u32| rollout.sample == sample))
            .map(|rollout| rollout.rollout_id.clone())
            .collect();
        if matching.is_empty() {
            let ids = rollouts.iter().map(|rollout| rollout.instance_id.as_str());
            let failure = Failure::usage(format!("no rollout {wanted:?} in this run"));
            return Err(match crate::job::nearest(instance, ids) {
                Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
                None => failure,
            });
        }
    }
    // Several samples of one task: the first is as good as any, and the others can be named.
    Ok(matching.swap_remove(0))
}

fn text(record: &RolloutRecord, full: bool) -> String {
    let mut out = head(record);
    for step in &record.steps {
        let usage = step.usage;
        let tokens = usage.prompt_tokens + usage.completion_tokens;
        let (llm, env) = (duration(step.llm_ms), duration(step.env_ms));
        line(&mut out, &format!("\n── step {} ── model {llm}, tools {env}, {tokens} tokens", step.index + 1));
        if let Some(reasoning) = &step.reasoning {
            line(&mut out, &format!("[reasoning] {reasoning}"));
        }
        if !step.content.is_empty() {
            line(&mut out, &step.content);
        }
        for call in &step.tool_calls {
            line(&mut out, &format!("→ {} {}", call.name, call.arguments));
        }
        if let Some(complaint) = &step.format_error {
            line(&mut out, &format!("! {complaint}"));
        }
        for seen in &step.observations {
            line(&mut out, &indent(&shorten(&seen.content, full)));
        }
    }
    tail(record, &mut out);
    out
}

fn head(record: &RolloutRecord) -> String {
    let mut out = String::new();
    line(
        &mut out,
        &format!("{}  sample {}  rollout {}", record.task.instance_id, record.sample, record.rollout_id),
    );
    let model = if record.policy.model.is_empty() { "no model" } else { &record.policy.model };
    line(&mut out, &format!("agent {} with {model}, attempt {}", record.policy.agent, record.attempt));
    let sandbox = &record.sandbox;
    line(
        &mut out,
        &format!("sandbox {} ({}), image {}", sandbox.backend, sandbox.isolation, sandbox.image_ref),
    );
    for deviation in &sandbox.deviations {
        line(&mut out, &format!("  deviates: {deviation}"));
    }
    if !record.policy.task_prompt.is_empty() {
        line(&mut out, "\n── task ──");
        line(&mut out, &record.policy.task_prompt);
    }
    out
}

fn tail(record: &RolloutRecord, out: &mut String) {
    if let Some(patch) = &record.patch {
        line(out, &format!("\n── patch ── {} files, +{} −{}", patch.files, patch.added, patch.removed));
        line(out, &String::from_utf8_lossy(&patch.bytes));
    }
    let wrong: Vec<_> = record.tests.iter().filter(|test| !test.ok).collect();
    if !wrong.is_empty() {
        line(out, "── tests that did not do what they should ──");
        for test in wrong {
            line(out, &format!("{:8} {:4} {}", test.status, test.suite, test.test_id));
        }
    }
    let stop = record.stop_reason.map_or_else(|| "-".to_owned(), |stop| stop.to_string());
    line(out, "\n── end ──");
    match &record.outcome {
        Outcome::Graded(graded) => line(
            out,
            &format!(
                "reward {}  ({}, rule {}), agent stopped: {stop}",
                graded.reward, graded.stop, graded.rule
            ),
        ),
        Outcome::Faulted(fault) => {
            line(
                out,
                &format!("fault of {} during {}: {} (no reward)", fault.blame, fault.phase, fault.message),
            );
        }
    }
    if let Some(log) = &record.grader_log {
        line(out, &format!("grader log: {log} (zstd)"));
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end_matches('\n')).expect("writing to a String cannot fail");
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  │ {line}")).collect::<Vec<_>>().join("\n")
}

fn shorten(text: &str, full: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if full || lines.len() <= 2 * ENDS + 1 {
        return text.to_owned();
    }
    let left_out = lines.len() - 2 * ENDS;
    let note = format!("… {left_out} lines (--full shows them) …");
    [&lines[..ENDS], &[note.as_str()], &lines[lines.len() - ENDS..]].concat().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_observations_are_shortened_in_the_middle() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        let short = shorten(&text, false);
        assert!(short.starts_with("0\n") && short.ends_with("\n99") && short.contains("… 76 lines"));
        assert_eq!(shorten(&text, true), text);
        assert_eq!(shorten("a\nb", false), "a\nb");
    }
}
