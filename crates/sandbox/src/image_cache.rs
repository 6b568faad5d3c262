//! Which images a node keeps.
//!
//! The secret of this module is how processes of one node agree on that without a daemon of their own: whoever uses an
//! image holds a shared lock on a file with its name, and whoever removes one must have that lock alone. The kernel drops
//! locks with their process, so a `kill -9` at any point leaves nothing held. Which images go is decided by values alone
//! ([`policy`]); the backends list, measure and remove.

mod fill;
mod leases;
mod meter;
mod policy;

pub use leases::Lease;
pub use policy::WaterMarks;

pub(crate) use fill::Fill;
pub(crate) use leases::{Had, Leases, Seized, modified};
pub(crate) use meter::Meter;
pub(crate) use policy::{Entry, Need, excess, stored, victims};
