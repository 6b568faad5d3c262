//! `thresher status` and `thresher watch`: how far a run is, from its prefix alone.

mod standing;

use std::io::IsTerminal as _;
use std::time::Duration;

use thresher_core::exit_code;
use thresher_ledger::LogSummary;

pub(super) use self::standing::{Standing, State};
use super::{print, print_json};
use crate::args::StatusArgs;
use crate::exit::Failure;
use crate::location::{Location, Patience};

/// Between two looks of `watch`.
const PAUSE: Duration = Duration::from_secs(2);

/// Prints how far the run is.
pub(super) async fn run(args: StatusArgs) -> Result<i32, Failure> {
    let ledger = Location::parse(&args.run)?.find(Patience::Short).await?;
    let standing = Standing::of(&ledger, &ledger.log_summary().await?).await?;
    if args.json {
        print_json(&standing)?;
    } else {
        print(&standing.text(None))?;
    }
    Ok(exit_code::OK)
}

/// Prints it again and again, until the run is sealed or cancelled.
pub(super) async fn watch(args: StatusArgs) -> Result<i32, Failure> {
    let ledger = Location::parse(&args.run)?.find(Patience::Long).await?;
    let redraw = !args.json && std::io::stdout().is_terminal();
    let (mut log, mut pace) = (ledger.log_summary().await?, Pace::default());
    let mut last = String::new();
    loop {
        let standing = Standing::of(&ledger, &log).await?;
        pace.look(standing.finished());
        if args.json {
            print(&serde_json::to_string(&standing)?)?;
        } else if redraw {
            print(&format!("\x1b[H\x1b[J{}", standing.text(pace.per_minute())))?;
        } else {
            let line = standing.line();
            if line != last {
                print(&line)?;
                last = line;
            }
        }
        if matches!(standing.state, State::Sealed | State::Cancelled) {
            return Ok(exit_code::OK);
        }
        tokio::time::sleep(PAUSE).await;
        log.refresh().await?;
    }
}

/// How fast rollouts finish while one watches.
#[derive(Default)]
struct Pace {
    first: Option<(tokio::time::Instant, u64)>,
    now: Option<(tokio::time::Instant, u64)>,
}

impl Pace {
    fn look(&mut self, finished: u64) {
        let look = (tokio::time::Instant::now(), finished);
        self.first.get_or_insert(look);
        self.now = Some(look);
    }

    fn per_minute(&self) -> Option<f64> {
        let ((begun, before), (now, after)) = (self.first?, self.now?);
        let minutes = (now - begun).as_secs_f64() / 60.0;
        (minutes > 0.05 && after > before).then(|| (after - before) as f64 / minutes)
    }
}

/// Reads the log of a run for a look at it.
pub(super) async fn summary(ledger: &thresher_ledger::Ledger) -> Result<LogSummary, Failure> {
    Ok(ledger.log_summary().await?)
}
