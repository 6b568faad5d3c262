//! `thresher runs`: the runs below a directory or a bucket's prefix.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use thresher_core::exit_code;
use thresher_ledger::Ledger;
use thresher_store::{ObjectPath, ObjectStore, StoreError};

use super::status::{Standing, word};
use super::{print, print_json};
use crate::args::RunsArgs;
use crate::exit::{Failure, WithCode as _};
use crate::location::{Location, Patience};
use crate::table::{self, count};

/// What every run has, below its own prefix.
const MARK: &str = "plan/00000001.json";
/// Runs lie at most so many folders below what is asked for.
const DEPTH: u32 = 3;

/// Runs that are looked at at a time.
const LOOKS: usize = 8;

/// A run, or why nothing can be said of it.
type Look = (String, Result<Standing, Failure>);

/// Lists them.
pub(super) async fn run(args: RunsArgs) -> Result<i32, Failure> {
    let location = Location::parse(&args.place)?;
    if let Some(dir) = location.dir().filter(|dir| !dir.is_dir()) {
        return Err(Failure::usage(format!("no directory {}", dir.display())));
    }
    let (store, prefix) = location.store(Patience::Short).await?;
    let found = find(&*store, &prefix).await.code(exit_code::UNAVAILABLE)?;
    let looks = stream::iter(found).map(async |run| {
        let standing = look(&store, &run).await;
        (location.at(&run), standing)
    });
    let looks: Vec<Look> = looks.buffered(LOOKS).collect().await;
    if args.json {
        print_json(&looks.iter().map(json).collect::<Vec<_>>())?;
    } else if looks.is_empty() {
        print(&format!("no runs below {location}"))?;
    } else {
        print(&text(&looks))?;
    }
    Ok(exit_code::OK)
}

async fn look(store: &Arc<dyn ObjectStore>, prefix: &str) -> Result<Standing, Failure> {
    let ledger = Ledger::find(Arc::clone(store), prefix).await?;
    Standing::of(&ledger, &ledger.log_summary().await?).await
}

fn json((place, look): &Look) -> serde_json::Value {
    match look {
        Ok(standing) => json!({ "run": place, "status": standing }),
        Err(failure) => json!({ "run": place, "error": failure.to_string() }),
    }
}

fn text(looks: &[Look]) -> String {
    let mut runs = table::new(["run", "state", "planned", "graded", "solved", "faulted"]);
    let mut broken = String::new();
    for (place, look) in looks {
        match look {
            Ok(standing) => {
                let numbers =
                    [standing.planned, standing.graded, standing.solved, standing.faulted].map(count);
                runs.add_row([place.clone(), word(&standing.state)].into_iter().chain(numbers));
            }
            Err(failure) => broken.push_str(&format!("\n{place}: {failure}")),
        }
    }
    format!("{runs}{broken}")
}

/// The prefixes of runs down to [`DEPTH`] folders below `prefix`. What lies in a run is not looked at.
pub(super) async fn find(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut level = vec![prefix.to_owned()];
    for _ in 0..=DEPTH {
        let looks = stream::iter(level).map(async |folder| match is_run(store, &folder).await? {
            true => Ok((Some(folder), Vec::new())),
            false => Ok((None, below(store, &folder).await?)),
        });
        let looks: Vec<(Option<String>, Vec<String>)> = looks.buffered(LOOKS).try_collect().await?;
        let (runs, folders): (Vec<_>, Vec<_>) = looks.into_iter().unzip();
        found.extend(runs.into_iter().flatten());
        level = folders.concat();
    }
    found.sort();
    Ok(found)
}

async fn is_run(store: &dyn ObjectStore, folder: &str) -> Result<bool, StoreError> {
    // A folder whose name cannot be part of a path of ours holds no run of ours.
    let Ok(mark) = ObjectPath::parse(join(folder, MARK)) else { return Ok(false) };
    match store.head(&mark).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn below(store: &dyn ObjectStore, folder: &str) -> Result<Vec<String>, StoreError> {
    Ok(store.folders(folder).await?.iter().map(|name| join(folder, name)).collect())
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
