//! `thresher` from outside: what it prints, how it ends, and what it leaves in a run directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use common::endpoint::Endpoint;
use common::row::{Row, job};
use common::{Home, eventually, json, quickstart};
use rustix::process::Signal;
use thresher_testkit::ModelServerSpec;

/// Tasks of the quickstart.
const TASKS: u32 = 8;

fn rows(number: u32) -> Vec<Row> {
    (1..=number).map(|number| Row::new(&format!("small__answer-{number}"))).collect()
}

#[test]
fn the_oracle_solves_every_quickstart_task_and_nothing_solves_none() {
    let home = Home::new();
    for (agent, reward) in [("oracle", 1.0), ("null", 0.0)] {
        home.run(&quickstart(), agent).args(["-a", agent, "-k", "1"]).expect(0);
        let rewards = home.rewards(agent);
        assert_eq!(rewards.len(), TASKS as usize);
        assert!(rewards.iter().all(|(_, _, found)| *found == Some(reward)), "{agent}: {rewards:?}");
    }
}

#[test]
fn two_runs_agree_and_a_finished_run_is_not_run_again() {
    let home = Home::new();
    home.run(&quickstart(), "one").expect(0);
    home.run(&quickstart(), "two").expect(0);
    assert_eq!(home.verdicts("one"), home.verdicts("two"));
    assert_eq!(home.verdicts("one").len(), 2 * TASKS as usize);

    let (files, manifest) = (home.files("one"), home.manifest("one"));
    let again = home.run(&quickstart(), "one").expect(0).json();
    assert_eq!(home.files("one"), files);
    assert_eq!(home.manifest("one"), manifest);
    assert_eq!(again["report"]["graded"], 2 * TASKS);
}

#[test]
fn more_samples_are_added_to_those_that_are_there() {
    let home = Home::new();
    home.run(&quickstart(), "out").args(["-a", "oracle", "-k", "2"]).expect(0);
    let (before, attempts) = (home.rewards("out"), home.files("out/attempts"));
    home.run(&quickstart(), "out").args(["-a", "oracle", "-k", "4"]).expect(0);
    let (after, more) = (home.rewards("out"), home.files("out/attempts"));
    assert_eq!(after.len(), 4 * TASKS as usize);
    let (old, new): (Vec<_>, Vec<_>) = after.into_iter().partition(|(_, sample, _)| *sample < 2);
    assert_eq!(old, before);
    assert!(new.iter().all(|(_, sample, reward)| (2..4).contains(sample) && *reward == Some(1.0)), "{new:?}");
    assert_eq!(more.len(), 2 * attempts.len(), "every sample was tried once");
    assert!(attempts.iter().all(|attempt| more.contains(attempt)));
}

#[test]
fn durations_of_a_file_or_a_former_run_decide_shards_and_order() {
    let home = Home::new();
    home.write("times.json", r#"{"small__answer-2": 900, "small__*": 100}"#);
    let oracle = "agent: { name: oracle }\nsamples: 3\n";
    let sized = job(&home, "sized", &rows(3), &format!("{oracle}durations: times.json\n"));
    let plan = |job: &str| home.run(job, "out").args(["--dry-run"]).expect(0).json()["plan"].clone();
    let (planned, again) = (plan(&sized), plan(&sized));
    assert_eq!(planned, again);
    let seconds = |plan: &serde_json::Value| -> Vec<Vec<u64>> {
        let of = |shard: &serde_json::Value| -> Vec<u64> {
            let rollouts = shard["rollouts"].as_array().unwrap().iter();
            rollouts.map(|rollout| rollout["expected_s"].as_u64().unwrap()).collect()
        };
        plan["shards"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(seconds(&planned), [vec![900], vec![900], vec![900], vec![100; 6]]);

    let wrong = job(&home, "wrong", &rows(3), &format!("{oracle}durations: time.json\n"));
    let refused = home.run(&wrong, "out").args(["--dry-run"]).expect(2);
    assert!(refused.stderr.contains("did you mean `times.json`?"), "{}", refused.stderr);

    // What the harmless tasks took is far from the guess of those who know nothing.
    home.run(&job(&home, "first", &rows(2), oracle), "former").expect(0);
    let learned = job(&home, "learned", &rows(3), &format!("{oracle}durations: former\n"));
    let learned = seconds(&plan(&learned));
    assert!(learned.len() == 1 && learned[0].iter().all(|seconds| *seconds < 100), "{learned:?}");
}

#[test]
fn refusals_have_their_code_and_say_what_to_change() {
    let home = Home::new();
    let good = job(&home, "good", &rows(1), "agent: { name: oracle }\n");
    let misspelt = job(&home, "misspelt", &rows(1), "agent: { name: oracle }\nsample: 2\n");
    let no_data = home.write("no-data.yaml", "dataset: { path: absent.jsonl }\nagent: { name: oracle }\n");
    home.run(&good, "out").expect(0);
    let cases: &[(&str, &[&str], i32, &[&str])] = &[
        (&misspelt, &[], 2, &["misspelt.yaml:4:1", "`sample`", "did you mean `samples`?"]),
        (&no_data, &[], 7, &["absent.jsonl"]),
        (&good, &["--only", "other__*"], 7, &["other__*"]),
        (&good, &["-a", "orcale"], 2, &["did you mean `oracle`?"]),
        (&good, &["-a", "null"], 5, &["agent.name: \"oracle\" -> \"null\"", "--out"]),
    ];
    for (job, args, code, wanted) in cases {
        let files = home.files("out");
        let output = home.run(job, "out").args(*args).expect(*code);
        assert!(wanted.iter().all(|wanted| output.stderr.contains(wanted)), "{wanted:?}: {}", output.stderr);
        assert_eq!(output.stdout, "");
        assert_eq!(home.files("out"), files, "a refused job leaves the run as it is");
    }
}

#[test]
fn a_run_directory_in_use_is_refused() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    endpoint.shut();
    let job = job(&home, "job", &rows(1), &endpoint.yaml(false));
    let first = home.run(&job, "out").spawn();
    eventually("the first run asks the model", || (!endpoint.requests().is_empty()).then_some(()));
    let second = home.run(&job, "out").expect(5);
    assert!(second.stderr.contains("is in use by"), "{}", second.stderr);
    endpoint.open();
    first.expect(0);
    assert_eq!(home.rewards("out"), [("small__answer-1".to_owned(), 0, Some(1.0))]);
}

#[test]
fn the_first_interrupt_drains_and_the_same_command_goes_on() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    endpoint.shut();
    let job = job(&home, "job", &rows(4), &format!("{}concurrency: 1\n", endpoint.yaml(false)));
    let running = home.run(&job, "out").spawn();
    eventually("the run asks the model", || (!endpoint.requests().is_empty()).then_some(()));
    running.signal(Signal::INT);
    endpoint.open();
    let drained = running.expect(4).json();
    let counts = home.manifest("out")["counts"].clone();
    assert_eq!(drained["manifest"]["counts"], counts);
    let (graded, missing) = (counts["graded"].as_u64().unwrap(), counts["missing"].as_u64().unwrap());
    assert!(graded >= 1 && missing >= 1 && graded + missing == 4, "{counts}");
    assert_eq!(home.rewards("out").len() as u64, graded);

    home.run(&job, "out").expect(0);
    assert!(home.rewards("out").iter().all(|(_, _, reward)| *reward == Some(1.0)));
    assert_eq!(home.manifest("out")["counts"]["graded"], 4);
    assert_eq!(endpoint.requests().len(), 4 * 3, "what was finished was not run again");
}

#[test]
fn the_second_interrupt_stops_at_once_and_the_run_stays_valid() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    endpoint.shut();
    let job = job(&home, "job", &rows(3), &format!("{}concurrency: 2\n", endpoint.yaml(false)));
    let mut running = home.run(&job, "out").spawn();
    eventually("two rollouts ask the model", || (endpoint.requests().len() == 2).then_some(()));
    // Signals that come close together may be one, so they are repeated.
    eventually("the run stops", || {
        if running.ended().is_none() {
            running.signal(Signal::INT);
        }
        running.ended()
    });
    let stopped = running.expect(130);
    assert!(stopped.stderr.contains("the same command goes on"), "{}", stopped.stderr);
    endpoint.open();
    home.run(&job, "out").expect(0);
    assert_eq!(home.rewards("out").len(), 3);
    assert!(home.rewards("out").iter().all(|(_, _, reward)| *reward == Some(1.0)));
}

#[test]
fn report_and_show_agree_with_the_manifest() {
    let home = Home::new();
    home.run(&quickstart(), "out").expect(0);
    let counts = home.manifest("out")["counts"].clone();
    let report = home.command("report").args(["out", "--json"]).expect(0).json();
    for key in ["planned", "graded", "solved", "faulted", "missing"] {
        assert_eq!(report[key], counts[key], "{key}");
    }
    let text = home.command("report").args(["out"]).expect(0).stdout;
    assert!(text.contains("16 planned, 16 graded, 0 faulted, 0 missing"), "{text}");
    for row in home.rollouts("out") {
        let record = home.command("show").args(["out", row.rollout_id.as_str(), "--json"]).expect(0).json();
        assert_eq!(record["task"]["instance_id"], row.instance_id.as_str());
        assert_eq!(record["outcome"]["reward"].as_f64(), row.outcome.reward(), "{record}");
    }
    let example = report["example"].as_str().unwrap();
    let text = home.command("show").args(["out", example]).expect(0).stdout;
    let (instance, sample) = example.split_once('#').unwrap();
    assert!(text.contains(&format!("{instance}  sample {sample}")) && text.contains("reward 1"), "{text}");
    let unknown = home.command("show").args(["out", "daycalc__dates-5"]).expect(2);
    assert!(unknown.stderr.contains("did you mean daycalc__dates-4?"), "{}", unknown.stderr);
}

#[test]
fn stored_logs_are_graded() {
    let home = Home::new();
    job(&home, "job", &rows(1), "agent: { name: oracle }\n");
    let cases = [
        ("ok 1 answer\nok 2 neighbour\n1..2\n", true, Some("FULL"), 1.0),
        ("not ok 1 answer\nok 2 neighbour\n1..2\n", true, Some("NO"), 0.0),
        ("ok 1 answer\nnot ok 2 neighbour\n1..2\n", true, Some("NO"), 0.0),
        ("not ok 1 answer\nok 2 neighbour\n1..2\n\n##### tests ended: Exited(1)\n", true, Some("NO"), 0.0),
        ("ok 1 answer\nok 2 neighbour\n\n##### tests ended: TimedOut\n", false, None, 0.0),
        ("Segmentation fault\n", false, None, 0.0),
    ];
    for (log, found, resolution, reward) in cases {
        let log_file = home.write("tests.log", log);
        let args = ["-d", "job.jsonl", "-i", "small__answer-1", "-l", &log_file, "--json"];
        let verdict = home.command("grade").args(args).expect(0).json();
        let seen = (verdict["found"].as_bool(), verdict["resolution"].as_str(), verdict["reward"].as_f64());
        assert_eq!(seen, (Some(found), resolution, Some(reward)), "{log}: {verdict}");
    }
    let wrong = home.command("grade").args(["-d", "job.jsonl", "-i", "small__answer-2", "-l", "-"]).expect(7);
    assert!(wrong.stderr.contains("small__answer-1"), "{}", wrong.stderr);
}

#[test]
fn the_key_reaches_the_endpoint_and_nothing_else() {
    const KEY: &str = "sk-3a1f-must-not-be-seen-77c0";
    let home = Home::new();
    let endpoint =
        Endpoint::start(ModelServerSpec { key: Some(KEY.to_owned()), ..ModelServerSpec::default() });
    let job = job(&home, "job", &rows(1), &endpoint.yaml(true));
    let run = home.run(&job, "out").env("SMALL_KEY", KEY).env("THRESHER_LOG", "trace").expect(0);
    assert_eq!(home.rewards("out"), [("small__answer-1".to_owned(), 0, Some(1.0))]);
    assert_eq!(endpoint.refusals(), Vec::<String>::new());
    let show = home.command("show").args(["out", "small__answer-1", "--json"]).expect(0);
    assert!(json(&show.stdout)["steps"].as_array().unwrap().len() == 3, "the record has every step");
    for (what, text) in [("stdout", &run.stdout), ("stderr", &run.stderr), ("the record", &show.stdout)] {
        assert!(!text.contains(KEY), "the key is in {what}");
    }
    // What unpacked images hide is marked by devices, which nobody can read.
    let files = home.files("").into_iter().filter(|file| home.path(file).is_file());
    for file in files {
        let bytes = std::fs::read(home.path(&file)).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "the key is in {file}");
    }
}

#[test]
fn a_refused_key_is_a_fault_without_a_reward_and_ends_the_run() {
    let home = Home::new();
    let endpoint =
        Endpoint::start(ModelServerSpec { key: Some("right".to_owned()), ..ModelServerSpec::default() });
    let job = job(&home, "job", &rows(5), &format!("{}concurrency: 1\n", endpoint.yaml(true)));
    let ended = home.run(&job, "out").env("SMALL_KEY", "wrong").expect(3).json();
    assert_eq!(home.rewards("out"), [("small__answer-1".to_owned(), 0, None)]);
    assert_eq!(endpoint.requests().len(), 1, "a key that is refused once is not tried again");
    let report = &ended["report"];
    assert_eq!(
        (&report["faulted"], &report["graded"], &report["solve_rate"]["of"]),
        (&1.into(), &0.into(), &0.into())
    );
    assert_eq!(report["fault_classes"][0]["blame"], "configuration", "{report}");

    home.run(&job, "out").env("SMALL_KEY", "right").expect(0);
    assert_eq!(home.manifest("out")["counts"]["solved"], 5);
}

#[test]
fn gc_merges_and_deletes_what_is_no_part_of_a_run_and_nothing_else() {
    let home = Home::new();
    for samples in ["1", "2"] {
        home.run(&quickstart(), "out").args(["-a", "oracle", "-k", samples]).expect(0);
    }
    let (rewards, packed) = (home.rewards("out"), home.files("out/tables"));
    home.write("out/tables/rollouts/0123456789abcdef.parquet", "a packer died");
    let gc = |args: &[&str]| home.command("gc").args(["out", "--json"]).args(args).expect(0).json();

    let look = gc(&["--keep", "0", "--dry-run"]);
    assert_eq!((&look["gc"]["condemned"], &look["gc"]["tables"]["objects"]), (&1.into(), &1.into()));
    assert_eq!(home.files("out/tables").len(), packed.len() + 1, "it only looked");
    let kept = gc(&[]);
    assert_eq!((&kept["gc"]["kept"], &kept["compacted"]), (&look["gc"]["tables"], &serde_json::Value::Null));
    gc(&["--keep", "0"]);
    assert_eq!(home.files("out/tables"), packed);

    let merged = gc(&["--compact", "--keep", "0"]);
    assert_eq!((&merged["compacted"]["removed"], &merged["compacted"]["added"]), (&2.into(), &1.into()));
    assert_eq!(merged["gc"]["tables"]["objects"], packed.len());
    assert_eq!(home.files("out/tables").len(), packed.len() / 2);
    assert_eq!(home.rewards("out"), rewards);
    let again = home.run(&quickstart(), "out").args(["-a", "oracle", "-k", "2"]).expect(0).json();
    assert_eq!(again["report"]["graded"], 2 * TASKS);
    home.command("gc").args(["out", "--keep", "soon"]).expect(2);
}

#[test]
fn two_runs_are_compared_task_by_task() {
    let home = Home::new();
    let rows: Vec<Row> = (0..8).map(|task| Row::new(&format!("compare__{task}"))).collect();
    let job = job(&home, "job", &rows, "");
    for agent in ["oracle", "null"] {
        home.run(&job, agent).args(["--agent", agent]).expect(0);
    }
    let compare = |old: &str, new: &str| home.command("compare").args([old, new, "--fail-on-regression"]);
    let worse = compare("oracle", "null").expect(10).stdout;
    assert!(worse.contains("-100.0 points over 8 shared tasks") && worse.contains("compare__7"), "{worse}");
    compare("null", "oracle").expect(0);
    let json = compare("oracle", "null").args(["20", "--json"]).expect(10).json();
    assert_eq!((&json["tasks"], json["worse"].as_array().unwrap().len()), (&8.into(), 8), "{json}");
    home.command("compare").args(["oracle", "null"]).expect(0);
}
