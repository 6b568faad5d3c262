//! Cgroups of the sandbox: made before it, joined by its first process, removed after it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use super::plan::{Cgroup, Join};
use super::report::{At, Failure, Step};

/// Makes the folders and writes the limits.
pub(super) fn make(cgroups: &[Cgroup]) -> Result<(), Failure> {
    for cgroup in cgroups {
        let folder = &cgroup.folder;
        fs::create_dir(folder).at(Step::Cgroup, || folder.display().to_string())?;
        for (file, value) in &cgroup.settings {
            let file = folder.join(file);
            fs::write(&file, value).at(Step::Cgroup, || format!("{} = {value}", file.display()))?;
        }
    }
    Ok(())
}

/// Opens the cgroup that the first process is to be born in, if there is one.
pub(super) fn birthplace(cgroups: &[Cgroup]) -> Result<Option<OwnedFd>, Failure> {
    let Some(cgroup) = cgroups.iter().find(|cgroup| cgroup.join == Join::Birth) else { return Ok(None) };
    let folder = File::open(&cgroup.folder).at(Step::Cgroup, || cgroup.folder.display().to_string())?;
    Ok(Some(folder.into()))
}

/// Joins all those that are joined by writing.
pub(super) fn join(cgroups: &[Cgroup]) -> Result<(), Failure> {
    for cgroup in cgroups.iter().filter(|cgroup| cgroup.join == Join::Tasks) {
        let tasks = cgroup.folder.join("tasks");
        fs::write(&tasks, "0").at(Step::Cgroup, || tasks.display().to_string())?;
    }
    Ok(())
}

/// Removes them. What the kernel still holds on to is left to the runner, which tries again later.
pub(super) fn remove(cgroups: &[Cgroup]) {
    for cgroup in cgroups {
        if fs::remove_dir(&cgroup.folder).is_err() {
            continue;
        }
    }
}
