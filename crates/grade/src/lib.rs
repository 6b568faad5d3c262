//! What test output means.
//!
//! The secret of this crate: how the text that a test run printed becomes a verdict. It hides the log parsers of
//! every benchmark, the gates that decide whether a log may be graded at all, the rules that turn statuses into a
//! resolution, and the quirks that must be kept so that a stored log gets the verdict that its benchmark gave it.
//!
//! The main type is [`Grade`]: what a caller stores, the same for every benchmark family. The way there is
//! [`swebench`] (a [`LogParser`] gives a [`StatusMap`], [`TestLists`] say what was wanted) or [`r2e`] (one map is
//! compared with another). [`EvalScript`] cuts a row's evaluation script into the parts that a sandbox runs.
//!
//! Invariants:
//! - Everything here is a pure function of text and lists: no clock, no I/O, no randomness, and no panic on any input.
//! - The output of a test run is written by code under test, so nothing here can make a fault out of it: a log that
//!   cannot be graded gives reward 0 and a reason, never an error.
//! - Compatible rules (`swebench::read_log`, `r2e::parse_compat`) follow their benchmark bit for bit, weaknesses included. What this
//!   project does better stands beside them under its own name (`swebench::read_run`,
//!   `r2e::parse_strict`).

mod eval_script;
mod grade;
mod parser;
mod py;
pub mod r2e;
mod status;
pub mod swebench;
mod test_list;

pub use eval_script::{EvalParts, EvalScript, NetworkUse, needs_network, network_uses, runs_locale_gen};
pub use grade::{Grade, Suite, Tally, TestVerdict};
pub use parser::{LogParser, ParseError, ParserError};
pub use status::{StatusMap, TestStatus};
pub use test_list::{TestListError, TestLists, decode_test_list};
