//! `thresher status` and `thresher watch`: how far a run is, from its prefix alone.

mod standing;
mod watching;

use std::io::IsTerminal as _;
use std::time::Duration;

use thresher_core::exit_code;
use tokio::time::Instant;

pub(super) use self::standing::{Standing, State, word};
use self::watching::Watching;
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
        print(&standing.text())?;
    }
    Ok(exit_code::OK)
}

/// Prints it again and again, until the run is sealed or cancelled.
pub(super) async fn watch(args: StatusArgs) -> Result<i32, Failure> {
    let ledger = Location::parse(&args.run)?.find(Patience::Long).await?;
    let redraw = !args.json && std::io::stdout().is_terminal();
    let (mut log, mut watching) = (ledger.log_summary().await?, Watching::default());
    let mut last = String::new();
    loop {
        let mut standing = Standing::of(&ledger, &log).await?;
        standing.watched(&mut watching, Instant::now());
        if args.json {
            print(&serde_json::to_string(&standing)?)?;
        } else if redraw {
            print(&screen(&standing.text()))?;
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

/// The text in place of what the terminal shows, as far as there is room.
fn screen(text: &str) -> String {
    // Where a terminal does not say how high it is, it is as they always were.
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row));
    let room = rows.max(4) - 1;
    let lines: Vec<&str> = text.lines().collect();
    let (shown, more) = match lines.len() > room {
        true => (&lines[..room - 1], format!("… {} more lines\x1b[K\n", lines.len() - room + 1)),
        false => (&lines[..], String::new()),
    };
    // Each line is cleared to its end and what is below at last, so that nothing flickers.
    let shown: String = shown.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{shown}{more}\x1b[J")
}
