//! The table of crates in ARCHITECTURE.md is what holds: edges as it states them and only downwards, and heavy
//! dependencies named by their owners alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PREFIX: &str = "thresher-";

/// Dependencies that must have an owner in the table, whatever else does.
const MUST_BE_OWNED: &[&str] =
    &["arrow-array", "aws-sdk-s3", "axum", "bollard", "clap", "parquet", "reqwest", "tracing-subscriber"];

type Names = BTreeSet<String>;

/// A row of the table.
#[derive(Debug)]
struct Row {
    name: String,
    depends_on: Names,
    heavy: Names,
}

fn crates_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The words in back-ticks.
fn names(cell: &str) -> Names {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the first table, from the top.
fn table() -> Vec<Row> {
    let text = std::fs::read_to_string(crates_folder().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| Crate ")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let [name, _secret, depends_on, heavy] = cells[..] else { panic!("not four cells: {line}") };
            let name = names(name).pop_first().expect("a row names its crate");
            Row { name, depends_on: names(depends_on), heavy: names(heavy) }
        })
        .collect()
}

/// What each crate of the workspace depends on, dependencies of tests left out.
fn dependencies() -> BTreeMap<String, Names> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(crates_folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (package["name"].as_str().unwrap().to_owned(), needed(package))).collect()
}

fn needed(package: &Value) -> Names {
    let all = package["dependencies"].as_array().unwrap().iter();
    let needed = all.filter(|dependency| dependency["kind"] != "dev");
    needed.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn edges_are_those_of_the_table() {
    let stated: BTreeMap<String, Names> =
        table().into_iter().map(|row| (format!("{PREFIX}{}", row.name), row.depends_on)).collect();
    let inside =
        |names: Names| names.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect();
    let found: BTreeMap<String, Names> =
        dependencies().into_iter().map(|(name, needed)| (name, inside(needed))).collect();
    assert_eq!(found, stated);
}

#[test]
fn edges_go_downwards() {
    let rows = table();
    for (at, row) in rows.iter().enumerate() {
        let below: Names = rows[at + 1..].iter().map(|row| row.name.clone()).collect();
        let upwards: Vec<_> = row.depends_on.difference(&below).collect();
        assert!(upwards.is_empty(), "{} depends on {upwards:?}, which is not below it", row.name);
    }
}

#[test]
fn heavy_dependencies_are_named_by_their_owners_alone() {
    let rows = table();
    let found = dependencies();
    let heavy: Names = rows.iter().flat_map(|row| row.heavy.clone()).collect();
    let missing: Vec<_> = MUST_BE_OWNED.iter().filter(|name| !heavy.contains(**name)).collect();
    assert!(missing.is_empty(), "no crate owns {missing:?}");
    for row in &rows {
        let named: Names = found[&format!("{PREFIX}{}", row.name)].intersection(&heavy).cloned().collect();
        assert_eq!(named, row.heavy, "heavy dependencies of {}", row.name);
    }
}
