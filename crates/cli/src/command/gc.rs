//! `thresher gc`: deletes what no reader of a run needs any more.

use thresher_core::exit_code;
use thresher_ledger::{CompactOptions, Compacted, Deleted, GcOptions, GcReport};
use thresher_rollout::Clock;

use super::{print, print_json};
use crate::args::GcArgs;
use crate::exit::Failure;
use crate::location::{Location, Patience};
use crate::table::{bytes, count};

/// Merges small packs if that is asked for, and collects. Workers may be at work meanwhile.
pub(super) async fn run(args: GcArgs) -> Result<i32, Failure> {
    let ledger = Location::parse(&args.run)?.find(Patience::Short).await?;
    let compacted = match args.compact {
        true => Some(ledger.compact(&CompactOptions::default()).await?),
        false => None,
    };
    let options = GcOptions {
        keep: args.keep,
        now_unix_s: Clock::system().now_us() / 1_000_000,
        dry_run: args.dry_run,
        ungraded: args.ungraded,
    };
    let report = ledger.gc(&options).await?;
    let heartbeats = if args.dry_run { 0 } else { ledger.clear_heartbeats().await? };
    if args.json {
        print_json(&serde_json::json!({
            "dry_run": args.dry_run, "compacted": compacted, "gc": report, "heartbeats": heartbeats,
        }))?
    } else {
        let mut text = text(&report, compacted, args.dry_run);
        if heartbeats > 0 {
            text.push_str(&format!("\ndeleted {} heartbeats of workers that were lost", count(heartbeats)));
        }
        print(&text)?
    }
    Ok(exit_code::OK)
}

fn text(report: &GcReport, compacted: Option<Compacted>, dry_run: bool) -> String {
    let mut lines = Vec::new();
    if let Some(Compacted { removed, added, rollouts }) = compacted {
        let (removed, added, rollouts) = (count(removed), count(added), count(rollouts));
        lines.push(match removed.as_str() {
            "0" => "no small packs to merge".to_owned(),
            _ => format!("merged {removed} small packs into {added}, with {rollouts} rollouts"),
        });
    }
    let deleted = if dry_run { "would delete" } else { "deleted" };
    let GcReport { condemned, kept, tables, ungraded, checkpoints } = report;
    if *condemned > 0 {
        let condemned_now = if dry_run { "would condemn" } else { "condemned" };
        lines.push(format!("{condemned_now} {} packs that are no part of the run", count(*condemned)));
    }
    lines.push(format!("{deleted} {}", amount(tables, "table files")));
    if kept.objects > 0 {
        lines.push(format!("{} stay for now, for whoever still reads them", amount(kept, "table files")));
    }
    if ungraded.objects > 0 {
        lines.push(format!("{deleted} {}", amount(ungraded, "trajectories of packed rollouts")));
    }
    if *checkpoints > 0 {
        lines.push(format!("{deleted} {} old checkpoints of the log", count(*checkpoints)));
    }
    lines.join("\n")
}

fn amount(of: &Deleted, what: &str) -> String {
    match of.objects {
        0 => format!("no {what}"),
        objects => format!("{} {what} ({})", count(objects), bytes(of.bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_apart_from_what_would_be() {
        let idle = GcReport::default();
        assert_eq!(text(&idle, None, false), "deleted no table files");
        assert_eq!(
            text(&idle, Some(Compacted::default()), false),
            "no small packs to merge\ndeleted no table files"
        );
        let tables = Deleted { objects: 9, bytes: 2_000 };
        let report = GcReport { condemned: 3, kept: tables, tables, ungraded: tables, checkpoints: 1_000 };
        let expected = format!(
            "would condemn 3 packs that are no part of the run\n\
             would delete 9 table files ({size})\n\
             9 table files ({size}) stay for now, for whoever still reads them\n\
             would delete 9 trajectories of packed rollouts ({size})\n\
             would delete 1,000 old checkpoints of the log",
            size = bytes(2_000)
        );
        assert_eq!(text(&report, None, true), expected);
        let merged = Compacted { removed: 20, added: 1, rollouts: 40 };
        let done = text(&report, Some(merged), false);
        assert!(
            done.starts_with("merged 20 small packs into 1, with 40 rollouts\ncondemned 3 packs"),
            "{done}"
        );
        assert!(!done.contains("would"), "{done}");
    }
}
