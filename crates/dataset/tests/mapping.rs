//! What each family makes of small rows: snapshots of whole selections and tasks.
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::fmt::Write as _;
use std::path::Path;

use thresher_core::InstanceId;
use thresher_core::run_spec::{DatasetFamily, DatasetSpec, SelectSpec};
use thresher_dataset::{Dataset, DatasetError};

fn spec(path: &str) -> DatasetSpec {
    DatasetSpec { path: path.into(), name: None, family: None, select: SelectSpec::default() }
}

fn testdata() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
}

fn open(path: &str) -> Dataset {
    Dataset::open(&spec(path), testdata()).unwrap()
}

/// Everything that planning and loading make of a dataset, as text.
fn shown(dataset: &Dataset) -> String {
    let selection = dataset.plan(&SelectSpec::default()).unwrap();
    let mut text = format!("{} {:?} {} rows\n", dataset.name(), dataset.family(), dataset.len());
    for refused in &selection.refused {
        let id = refused.instance_id.as_ref().map_or("-", |id| id.as_str());
        writeln!(text, "refused {} {id}: {}", refused.row, refused.reason).unwrap();
    }
    for handle in &selection.tasks {
        let task = dataset.load(handle).unwrap();
        assert_eq!((&task.instance_id, &task.row_sha256), (&handle.instance_id, &handle.row_sha256));
        assert_eq!(task.environment.image.to_string(), handle.image);
        writeln!(text, "\n--- row {} {:?}\n{:#?}", handle.row, handle.image, task).unwrap();
    }
    text
}

#[test]
fn r2e_gym_rows() {
    insta::assert_snapshot!(shown(&open("r2e_gym/rows.jsonl")));
}

#[test]
fn swe_bench_rows() {
    insta::assert_snapshot!(shown(&open("swe_bench/rows.jsonl")));
}

#[test]
fn inline_rows() {
    insta::assert_snapshot!(shown(&open("inline/rows.json")));
}

#[test]
fn a_row_that_cannot_be_run_is_found_for_grading() {
    let dataset = open("swe_bench/rows.jsonl");
    let handle = dataset.find(&InstanceId::new("pallets__Flask-1")).unwrap();
    assert_eq!(dataset.load(&handle).unwrap().environment.image.to_string(), handle.image);
    let error = dataset.find(&InstanceId::new("pallets__flask-2")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no instance of rows is called or matches `pallets__flask-2`; did you mean `pallets__Flask-1`?"
    );
}

/// Globs, filter, and the ids that are left (`!` marks the refused) or a part of the message.
type Narrowing = (&'static [&'static str], Option<&'static str>, Result<&'static str, &'static str>);

#[test]
fn selections_are_narrowed_by_globs_and_filters() {
    let dataset = open("swe_bench/rows.jsonl");
    let select = |only: &[&str], filter: Option<&str>| {
        let only = only.iter().map(|&glob| glob.to_owned()).collect();
        let spec = SelectSpec { only, filter: filter.map(str::to_owned), ..SelectSpec::default() };
        let ids = |selection: thresher_dataset::Selection| {
            let tasks = selection.tasks.iter().map(|task| task.instance_id.to_string());
            let refused = selection.refused.iter().filter_map(|row| row.instance_id.as_ref());
            tasks.chain(refused.map(|id| format!("!{id}"))).collect::<Vec<_>>().join(" ")
        };
        dataset.plan(&spec).map(ids).map_err(|error| error.to_string())
    };
    let cases: [Narrowing; 7] = [
        (&["v5__*"], None, Ok("v5__python-1 v5__js-2")),
        (&["v5__js-2", "bad__i*"], None, Ok("v5__js-2 !bad__image-6")),
        (&[], Some(r#"eval_type == "fail_only""#), Ok("v5__js-2")),
        (&[], Some(r#"image =~ "example/*" and hints_text == """#), Ok("r2e__variant-3 r2e__variant-4")),
        (&["v5__py*"], Some(r#"eval_type == "fail_only""#), Ok("")),
        (&["v5__pyhton-1"], None, Err("did you mean `v5__python-1`?")),
        (&[], Some("eval_tipe == 1"), Err("there is no column `eval_tipe`; did you mean `eval_type`?")),
    ];
    for (only, filter, expected) in cases {
        match (select(only, filter), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{only:?} {filter:?}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{only:?} {filter:?}: {found:?}"),
        }
    }
}

#[test]
fn nothing_of_gold_patch_tests_or_prompt_reaches_the_statement() {
    for path in ["r2e_gym/rows.jsonl", "swe_bench/rows.jsonl", "inline/rows.json"] {
        let dataset = open(path);
        for handle in dataset.plan(&SelectSpec::default()).unwrap().tasks {
            let statement = dataset.load(&handle).unwrap().problem_statement;
            for secret in ["SECRET", "diff --git", "+    return", "test_calc.py", "run.sh"] {
                assert!(!statement.contains(secret), "{}: {statement}", handle.instance_id);
            }
        }
    }
}

/// The same rows as lines, as a list, as an object and in two files keep their identities.
#[test]
fn a_rows_hash_depends_neither_on_file_nor_on_order() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(testdata().join("r2e_gym/rows.jsonl")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|row| !row.contains("The same commit again")).collect();
    let reversed: Vec<&str> = rows.iter().rev().copied().collect();
    let keyed: Vec<String> = rows.iter().enumerate().map(|(at, row)| format!("\"k{at}\": {row}")).collect();
    let files = [
        ("list.json", format!("[{}]", reversed.join(",\n"))),
        ("lines.jsonl", format!("\n{}\n\n", rows.join("\n"))),
        ("crlf.jsonl", rows.join("\r\n")),
        ("split/a.jsonl", rows[..3].join("\n")),
        ("split/b.jsonl", rows[3..].join("\n")),
        ("object.json", format!("{{{}}}", keyed.join(","))),
    ];
    std::fs::create_dir(folder.path().join("split")).unwrap();
    for (name, text) in &files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let identities = |name: &str, by_key: bool| {
        let dataset = Dataset::open(&spec(name), folder.path()).unwrap();
        let tasks = dataset.plan(&SelectSpec::default()).unwrap().tasks;
        tasks.iter().for_each(|task| drop(dataset.load(task).unwrap()));
        let identity = |task: thresher_core::plan::TaskHandle| (task.instance_id, task.row_sha256);
        let mut identities: Vec<_> = tasks.into_iter().map(identity).collect();
        identities.sort();
        assert_eq!(identities.iter().any(|(id, _)| id.as_str() == "k0"), by_key);
        identities
    };
    let expected = identities("lines.jsonl", false);
    assert_eq!(expected.len(), 2);
    for name in ["list.json", "crlf.jsonl", "split"] {
        assert_eq!(identities(name, false), expected, "{name}");
    }
    identities("object.json", true);
}

#[test]
fn the_fingerprint_covers_names_and_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::copy(testdata().join("swe_bench/rows.jsonl"), &path).unwrap();
    let fingerprint = |name: &str| Dataset::open(&spec(name), folder.path()).unwrap().fingerprint().unwrap();
    let first = fingerprint("rows.jsonl");
    assert_eq!(first, open("swe_bench/rows.jsonl").fingerprint().unwrap());
    std::fs::rename(&path, folder.path().join("other.jsonl")).unwrap();
    assert_ne!(first, fingerprint("other.jsonl"));
}

#[test]
fn a_row_that_changed_after_planning_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let text = std::fs::read_to_string(testdata().join("swe_bench/rows.jsonl")).unwrap();
    std::fs::write(&path, &text).unwrap();
    let open = || Dataset::open(&spec("rows.jsonl"), folder.path()).unwrap();
    let task = open().plan(&SelectSpec::default()).unwrap().tasks.remove(0);
    std::fs::write(&path, text.replace("add subtracts", "add divides")).unwrap();
    let error = open().load(&task).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rows.jsonl, row 0: the row has changed since the run was planned (it was v5__python-1)"
    );
}

#[test]
fn the_family_is_recognized_or_its_missing_columns_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let opened = |text: &str, family| {
        std::fs::write(folder.path().join("d.jsonl"), text).unwrap();
        let spec = DatasetSpec { family, ..spec("d.jsonl") };
        Dataset::open(&spec, folder.path()).map(|dataset| dataset.family()).map_err(|error| error.to_string())
    };
    let swe = r#"{"instance_id": "a", "FAIL_TO_PASS": [], "files": {}}"#;
    assert_eq!(opened(swe, None), Ok(DatasetFamily::SweBench));
    let both =
        r#"{"instance_id": "a", "FAIL_TO_PASS": [], "docker_image": "i", "expected_output_json": "{}"}"#;
    assert_eq!(opened(both, None), Ok(DatasetFamily::SweBench));
    assert_eq!(opened(both, Some(DatasetFamily::R2eGym)), Ok(DatasetFamily::R2eGym));
    let error = opened(r#"{"docker_image": "i", "expected_output": "{}"}"#, Some(DatasetFamily::R2eGym));
    let problem = "d: the rows fit no family: r2e_gym needs the columns `expected_output_json` (nearest: `expected_output`)";
    assert_eq!(error, Err(problem.to_owned()));
    assert!(opened(r#"{"url": "x"}"#, None).unwrap_err().contains("swe_bench needs the columns"));
    for (text, message) in [("{\"a\": 1", "d.jsonl, row 0: not a JSON object of columns"), ("[1]", "row 0")] {
        assert!(opened(text, None).unwrap_err().contains(message));
    }
}

#[test]
fn errors_chain_to_their_cause() {
    let error = Dataset::open(&spec("absent.jsonl"), testdata()).unwrap_err();
    assert!(matches!(&error, DatasetError::Io { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}
