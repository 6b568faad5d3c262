//! R2E-Gym's verdict: the parsed log must equal the map of the fixed commit.
//!
//! Two rules stand side by side. [`parse_compat`] and [`reward_compat`] are the seed's own, bit for bit, with its
//! weaknesses: a failing line whose message holds `PASSED` passes, and a summary that the tested program prints
//! replaces the real one. [`parse_strict`] reads only pytest's own result lines and names every test that differs.

mod compat;
mod expected;
mod strict;
#[cfg(test)]
mod tests;

pub use compat::{clean_output, parse_compat, reward_compat};
pub use expected::{ExpectedError, decode_expected};
pub use strict::{Comparison, StrictReading, parse_strict};

pub(crate) use expected::{comparable_map, plain_map};
pub(crate) use strict::compare;

/// The words that open pytest's list of results.
const SUMMARY: &str = "short test summary info";
