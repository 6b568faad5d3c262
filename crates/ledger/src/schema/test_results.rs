//! Columns of `test_results`.

use thresher_core::{Outcome, RolloutRecord};

use super::column::{Cell, Column, Kind, nullable, required};

pub(super) const COLUMNS: &[Column<RolloutRecord>] = &[
    required(1, "schema_version", Kind::Int32, "Version of the table's schema.", |r, _| {
        Cell::Int(r.schema_version.into())
    }),
    required(2, "rollout_id", Kind::Text, "The rollout.", |r, _| Cell::text(r.rollout_id.as_str())),
    required(3, "instance_id", Kind::Text, "The task.", |r, _| Cell::text(r.task.instance_id.as_str())),
    required(4, "eval_attempt", Kind::Int32, "Which attempt of the rollout was graded, from 1.", |r, _| {
        Cell::Int(r.attempt.into())
    }),
    required(5, "test_id", Kind::Text, "The test's name, as the dataset lists it.", |r, at| {
        Cell::text(&r.tests[at].test_id)
    }),
    required(6, "suite", Kind::Text, "`f2p`, `p2p`, `regression` or `other`.", |r, at| {
        Cell::text(&r.tests[at].suite)
    }),
    nullable(7, "expected", Kind::Text, "Expected status, where the family states one.", |r, at| {
        Cell::texts(r.tests[at].expected.as_deref())
    }),
    required(
        8,
        "status",
        Kind::Text,
        "`passed`, `failed`, `error`, `skipped`, `xfail`, `xpass` or `missing`.",
        |r, at| Cell::text(&r.tests[at].status),
    ),
    required(9, "ok", Kind::Bool, "Whether it satisfies the rule.", |r, at| Cell::Bool(r.tests[at].ok)),
    nullable(10, "harness_version", Kind::Text, "The rule with its generation.", |r, _| match &r.outcome {
        Outcome::Graded(graded) => Cell::text(&graded.rule),
        Outcome::Faulted(_) => Cell::Null,
    }),
    nullable(11, "log_uri", Kind::Text, "The grader's log, relative to the run's prefix; zstd.", |r, _| {
        Cell::texts(r.grader_log.as_deref())
    }),
];
