//! Tests of the ledger through its public interface, one file per kind. They name the steps of PROTOCOL.md.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod claims;
mod compact;
mod conflicts;
mod data;
mod fixtures;
mod follow;
mod gc;
mod hooked;
mod images;
mod kill;
mod log;
mod manifest;
mod packer;
mod plan;
mod readers;
mod run;
mod schema;
