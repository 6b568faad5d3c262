//! What the sandbox's processes may not do even as root.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::plan::Limit;
use super::report::{At, Failure, Step};

/// Sets limits, each lowered to what this process may have at most.
pub(super) fn set_limits(limits: &[Limit]) -> Result<(), Failure> {
    for limit in limits {
        let (resource, wanted) = match *limit {
            Limit::Core(value) => (Resource::Core, value),
            Limit::OpenFiles(value) => (Resource::Nofile, value),
            Limit::Processes(value) => (Resource::Nproc, value),
            Limit::Data(value) => (Resource::Data, value),
            Limit::FileSize(value) => (Resource::Fsize, value),
        };
        let value = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .at(Step::Privileges, || format!("{limit:?}"))?;
    }
    Ok(())
}

/// Gives up every capability that is not in the bit mask `kept`, now and for every later program.
pub(super) fn keep_only(kept: u64) -> Result<(), Failure> {
    let own = capabilities(None).at(Step::Privileges, || "own capabilities")?;
    let kept = CapabilitySet::from_bits_retain(kept) & own.permitted;
    // Without it the bounding set stays, which then bounds what nobody here has.
    if own.effective.contains(CapabilitySet::SETPCAP) {
        bound(kept)?;
    }
    clear_ambient_capability_set().at(Step::Privileges, || "ambient capabilities")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).at(Step::Privileges, || "capabilities")?;
    // Set-user-id programs and file capabilities give nothing from here on.
    set_no_new_privs(true).at(Step::Privileges, || "no_new_privs")
}

/// Takes everything else out of the bounding set.
fn bound(kept: CapabilitySet) -> Result<(), Failure> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.at(Step::Privileges, || format!("capability {number}"))?,
        }
    }
    Ok(())
}
