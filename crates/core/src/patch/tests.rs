//! Tests of the whole module: against tables, against seeded random edits, and against the real git.

mod against_git;
mod datasets;
mod random;
mod tables;
