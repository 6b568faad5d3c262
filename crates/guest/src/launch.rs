//! Making a sandbox without a container engine: the helper's mode `launch`.
//!
//! The runner has many threads and must not fork; so it starts this small static program, which reads a [`Plan`]
//! from its standard input, makes namespaces (or, without any, an own session) and starts itself again inside as
//! the sandbox's first process, with standard input and output passed on. The launcher stays outside and waits.
//!
//! Invariants:
//! - When the runner dies or lets go (end of standard input, or of the control socket that is standard error),
//!   the launcher kills the sandbox, waits until it is gone, removes its cgroups and exits. When the launcher
//!   itself is killed, the first process dies with it, and a PID namespace with its first process.
//! - Paths that an image controls are only followed after the root was changed, so that they end inside.
//! - A step that fails is named on the control socket as a [`Failure`] line; nothing goes on half made.

mod plan;
mod report;

#[cfg(feature = "bin")]
mod cgroup;
#[cfg(feature = "bin")]
mod clone;
#[cfg(feature = "bin")]
mod devices;
#[cfg(feature = "bin")]
mod inside;
#[cfg(feature = "bin")]
mod loopback;
#[cfg(feature = "bin")]
mod mounts;
#[cfg(feature = "bin")]
mod plain;
#[cfg(feature = "bin")]
mod privilege;
#[cfg(feature = "bin")]
mod procfs;
#[cfg(feature = "bin")]
mod root;
#[cfg(feature = "bin")]
mod run;
#[cfg(feature = "bin")]
mod supervise;
#[cfg(feature = "bin")]
mod users;

pub use plan::{
    Bind, Cgroup, Folder, IDS, Isolation, Join, Limit, Link, Namespaces, NetworkNamespace, Plain, Plan,
    ProcMount, Root, SmallFile, Users,
};
pub use report::{Failure, HELD, HOLD, LANDLOCK, Step};

#[cfg(feature = "bin")]
pub use run::main;

/// Longest plan in bytes: about ten times what a sandbox with 500 layers needs.
pub const MAX_PLAN: usize = 1 << 20;
