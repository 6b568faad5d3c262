//! Tests of the whole module: against tables, against seeded random edits, and against the real git.

mod against_git;
mod random;
mod tables;
