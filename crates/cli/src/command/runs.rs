//! `thresher runs`: the runs below a directory or a bucket's prefix.

use thresher_core::exit_code;
use thresher_ledger::Ledger;
use thresher_store::{ObjectPath, ObjectStore};

use super::status::Standing;
use super::{print, print_json};
use crate::args::RunsArgs;
use crate::exit::{Failure, WithCode as _};
use crate::location::{Location, Patience};
use crate::table::{self, count};

/// What every run has, below its own prefix.
const MARK: &str = "plan/00000001.json";
/// Runs lie at most so many folders below what is asked for.
const DEPTH: u32 = 3;

/// Lists them.
pub(super) async fn run(args: RunsArgs) -> Result<i32, Failure> {
    let location = Location::parse(&args.place)?;
    let (store, prefix) = location.store(Patience::Short).await?;
    let mut standings = Vec::new();
    for run in find(&*store, &prefix).await? {
        let ledger = Ledger::find(std::sync::Arc::clone(&store), &run).await.code(exit_code::USAGE)?;
        standings.push((run, Standing::of(&ledger, &super::status::summary(&ledger).await?).await?));
    }
    if args.json {
        let runs: Vec<_> = standings
            .iter()
            .map(|(prefix, standing)| serde_json::json!({ "prefix": prefix, "status": standing }))
            .collect();
        print_json(&runs)?;
        return Ok(exit_code::OK);
    }
    if standings.is_empty() {
        print(&format!("no runs below {location}"))?;
        return Ok(exit_code::OK);
    }
    let mut runs = table::new(["run", "state", "planned", "graded", "solved", "faulted"]);
    for (prefix, standing) in &standings {
        let state = serde_json::to_value(standing.state)?;
        runs.add_row([
            prefix.clone(),
            state.as_str().unwrap_or_default().to_owned(),
            count(standing.planned),
            count(standing.graded),
            count(standing.solved),
            count(standing.faulted),
        ]);
    }
    print(&runs.to_string())?;
    Ok(exit_code::OK)
}

/// The prefixes of runs down to [`DEPTH`] folders below `prefix`. What lies in a run is not looked at.
async fn find(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut level = vec![prefix.to_owned()];
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for folder in level {
            let path =
                |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if is_run(store, &path(MARK)).await? {
                found.push(folder);
                continue;
            }
            below.extend(store.folders(&folder).await?.iter().map(|name| path(name)));
        }
        level = below;
    }
    found.sort();
    Ok(found)
}

async fn is_run(store: &dyn ObjectStore, mark: &str) -> Result<bool, Failure> {
    let mark = ObjectPath::parse(mark).code(exit_code::USAGE)?;
    match store.head(&mark).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
