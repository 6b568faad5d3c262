//! Tests of the ledger through its public interface, one file per kind. They name the steps of PROTOCOL.md.

mod conflicts;
mod fixtures;
mod hooked;
mod kill;
mod readers;
mod run;
mod schema;
