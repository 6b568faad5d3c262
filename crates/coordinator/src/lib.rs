//! A run on Kubernetes.
//!
//! The secret of this crate is how a planned run becomes KubeJobs and how they are looked after: a [`Fleet`] is a run's place
//! in a cluster, [`Fleet::follow`] observes, decides and applies until the run is over. What is decided follows from the
//! ledger and the KubeJobs alone ([`decide`]), so a coordinator that is killed changes nothing but the pace of
//! housekeeping, and any number of them may run.
//!
//! Invariants:
//! - Truth about rollouts is in the ledger. A KubeJob's status tells only how its worker slots fare.
//! - Every command may be given twice.
//! - A changed template is a new generation, never a change of one that runs.
//! - Secrets are named, never read.

mod apply;
mod campaign;
mod cluster_spec;
mod decide;
mod error;
mod fleet;
mod kueue;
mod logs;
mod merge;
mod observe;
mod sandboxes;
mod template;
mod workers;

pub use campaign::Campaign;
pub use cluster_spec::{ClusterSpec, Placement};
pub use decide::{Beginning, Command, Ending, FleetJob, JobEnd, RunView, View, Wanted, decide};
pub use error::ClusterError;
pub use fleet::{Fleet, FleetEvent, Pausing};
pub use template::{Template, job_name};
