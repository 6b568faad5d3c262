//! Tests of the ledger through its public interface, one file per kind. They name the steps of PROTOCOL.md.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod claims;
mod conflicts;
mod fixtures;
mod hooked;
mod kill;
mod manifest;
mod plan;
mod readers;
mod run;
mod schema;
