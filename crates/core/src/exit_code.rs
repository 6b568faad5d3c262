//! Exit codes of the `thresher` command: documented constants, shared with pod failure policies.

/// Everything asked for was done.
pub const OK: i32 = 0;
/// A failure that no other code names.
pub const FAILURE: i32 = 1;
/// The command line or the job file is wrong; nothing was started.
pub const USAGE: i32 = 2;
/// The run ended, and some rollouts are faulted: repeating the command retries them.
pub const FAULTED: i32 = 3;
/// The run was drained on request (Ctrl-C, SIGTERM) and is valid; repeating the command goes on.
pub const DRAINED: i32 = 4;
/// The run directory is in use by another process, or belongs to a different job.
pub const CONFLICT: i32 = 5;
/// The machine lacks what the job needs (no Docker, no namespaces, no disk space).
pub const UNAVAILABLE: i32 = 6;
/// The dataset cannot be read or holds no task that can be run.
pub const DATA: i32 = 7;
/// The run was cancelled by an operator; what is finished is valid.
pub const CANCELLED: i32 = 8;
/// Something that many machines share (the object store) was away for longer than one waits; nothing is wrong with
/// this machine, and repeating the command goes on.
pub const OUTAGE: i32 = 9;
/// A comparison found the newer run to be worse.
pub const REGRESSION: i32 = 10;
/// Stopped at once by a second Ctrl-C; what was in flight is lost, the rest is valid.
pub const STOPPED: i32 = 130;

/// Every code with its meaning, for help texts and documentation.
pub const ALL: &[(i32, &str)] = &[
    (OK, "everything asked for was done"),
    (FAILURE, "a failure that no other code names"),
    (USAGE, "the command line or the job file is wrong; nothing was started"),
    (FAULTED, "the run ended with faulted rollouts; repeating the command retries them"),
    (DRAINED, "drained on request; repeating the command goes on"),
    (CONFLICT, "the run directory is in use, or belongs to a different job"),
    (UNAVAILABLE, "the machine lacks what the job needs"),
    (DATA, "the dataset cannot be read or holds no task that can be run"),
    (CANCELLED, "the run was cancelled; what is finished is valid"),
    (OUTAGE, "something that machines share, such as the object store, was away for too long"),
    (REGRESSION, "a comparison found the newer run to be worse"),
    (STOPPED, "stopped at once; what was in flight is lost, the rest is valid"),
];
