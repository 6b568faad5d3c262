//! A row's evaluation script: what the harness adds to it, and its parts.
//!
//! The harness runs the script as one command and finds the tests' output by markers that the script prints, which
//! code that runs before the tests can print too. This project runs set-up and tests as separate commands instead, so
//! that the sandbox knows where the tests' output begins and what their exit code was.

mod network;
mod shell;
mod split;
#[cfg(test)]
mod tests;

pub use network::{NetworkUse, needs_network, network_uses, runs_locale_gen};
pub use split::{EvalParts, EvalScript};
