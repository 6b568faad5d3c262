//! Random names for objects that no two writers may share.

use std::fmt;
use std::sync::Arc;

use rand::TryRng as _;

/// Where random names come from: the operating system, or a seeded source in a simulation.
#[derive(Clone)]
pub struct IdSource(Arc<dyn Fn() -> u64 + Send + Sync>);

impl IdSource {
    /// Takes numbers from `next`; they must not repeat within a run.
    pub fn new(next: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// A new name: 16 hex digits.
    pub(crate) fn fresh(&self) -> String {
        format!("{:016x}", (self.0)())
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new(|| {
            rand::rngs::SysRng.try_next_u64().expect("the system's random source never fails once up")
        })
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}
