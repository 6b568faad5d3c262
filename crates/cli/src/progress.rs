//! The progress view on stderr: a live one on a terminal, plain lines elsewhere.

mod state;

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use thresher_worker::{Event, Observer};

use self::state::State;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A view that is redrawn.
    Live,
    /// One line per finished rollout.
    Plain,
    /// Nothing.
    Quiet,
}

impl Mode {
    /// The mode that fits where stderr leads.
    pub(crate) fn fitting(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Live,
            (false, false) => Self::Plain,
        }
    }
}

/// The view.
pub(crate) struct View {
    state: Mutex<State>,
    live: Option<Live>,
    mode: Mode,
}

struct Live {
    bars: MultiProgress,
    bar: ProgressBar,
    tally: ProgressBar,
    running: ProgressBar,
}

impl View {
    /// Opens a view.
    pub(crate) fn new(mode: Mode) -> Self {
        Self { state: Mutex::default(), live: (mode == Mode::Live).then(Live::new), mode }
    }

    /// Takes the view off the terminal, so that what is printed next stands alone.
    pub(crate) fn close(&self) {
        if let Some(live) = &self.live {
            live.bar.finish_and_clear();
            live.tally.finish_and_clear();
            live.running.finish_and_clear();
        }
    }
}

impl Live {
    fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style =
            |template: &str| ProgressStyle::with_template(template).expect("the templates are constants");
        let line = || bars.add(ProgressBar::new(0));
        let bar = line();
        bar.set_style(
            style("{bar:32.green/dim} {pos}/{len} rollouts  {elapsed} elapsed, {eta} left")
                .progress_chars("━━╌"),
        );
        bar.enable_steady_tick(Duration::from_millis(250));
        let (tally, running) = (line(), line());
        tally.set_style(style("{msg}"));
        running.set_style(style("{msg:.dim}"));
        Self { bars, bar, tally, running }
    }

    fn show(&self, state: &State) {
        self.bar.set_length(state.planned());
        self.bar.set_position(state.finished());
        self.tally.set_message(state.tally());
        self.running.set_message(state.running());
    }
}

impl Observer for View {
    #[expect(clippy::print_stderr, reason = "plain progress lines are this view's purpose")]
    fn hear(&self, event: Event) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let line = state.take(event);
        match (&self.live, self.mode) {
            (Some(live), _) => {
                if let Some(line) = line.filter(|line| line.notable) {
                    // A terminal that went away is no reason to stop a run.
                    drop(live.bars.println(&line.text));
                }
                live.show(&state);
            }
            (None, Mode::Plain) => {
                if let Some(line) = line {
                    eprintln!("{}", line.text);
                }
            }
            (None, _) => {}
        }
    }
}
