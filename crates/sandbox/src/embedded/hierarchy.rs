//! Where in the machine's cgroup trees this process is, and where it may make cgroups below or beside itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{CONTROLLERS, Controller};

/// Version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A tree per controller; limits nest freely.
    One,
    /// One tree; a cgroup with processes in it has no children with controllers.
    Two,
}

/// The folders to make cgroups in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// In the order of [`CONTROLLERS`] for version 1; one for version 2.
    folders: Vec<PathBuf>,
}

impl Hierarchy {
    /// Finds them; the error says why there are none.
    pub(super) fn of_this_process() -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"));
        Self::find(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
    }

    fn find(mountinfo: &str, cgroup: &str) -> Result<Self, String> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let first: Option<Vec<PathBuf>> =
            CONTROLLERS.iter().map(|controller| version_one(&mounts, cgroup, *controller)).collect();
        if let Some(folders) = first {
            return Ok(Self { version: Version::One, folders });
        }
        let second =
            mounts.iter().find(|mount| mount.kind == "cgroup2").ok_or("no cgroup tree is mounted")?;
        let own =
            own_path(cgroup, |controllers| controllers.is_empty()).ok_or("this process is in no cgroup")?;
        let own = second.folder_of(own);
        // Processes and children exclude each other, but for the true root, which alone lacks this file.
        let is_true_root = !own.join("cgroup.type").exists();
        let parent = if is_true_root { Some(own.as_path()) } else { own.parent() };
        let parent = parent.filter(|parent| parent.starts_with(&second.point));
        let parent = parent.ok_or("this process is in the topmost cgroup that it can see")?;
        Ok(Self { version: Version::Two, folders: vec![parent.to_owned()] })
    }

    /// All folders.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The folder for a controller.
    pub(super) fn folder(&self, controller: Controller) -> &Path {
        let index = match self.version {
            Version::One => CONTROLLERS.iter().position(|other| *other == controller).unwrap_or(0),
            Version::Two => 0,
        };
        &self.folders[index]
    }

    /// Lets the children of a group have limits; nothing to do in version 1.
    pub(super) fn enable_controllers(&self, group: &Path) -> std::io::Result<()> {
        if self.version == Version::One {
            return Ok(());
        }
        let wanted = CONTROLLERS.map(|controller| format!("+{}", controller.name())).join(" ");
        if let Some(parent) = group.parent() {
            // Enabled already on most machines, and then not always ours to write.
            fs::write(parent.join("cgroup.subtree_control"), &wanted).ok();
        }
        fs::write(group.join("cgroup.subtree_control"), wanted)
    }
}

/// A mounted cgroup tree.
#[derive(Debug)]
struct Mount {
    /// The part of the tree that the mount shows.
    root: PathBuf,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    /// Reads a line of `mountinfo`: `id parent dev root point options [fields] - kind source super-options`.
    fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let mut back = back.split(' ');
        let kind = back.next()?.to_owned();
        kind.starts_with("cgroup").then_some(())?;
        Some(Self {
            root: front.next()?.into(),
            point: front.next()?.into(),
            kind,
            options: back.nth(1)?.to_owned(),
        })
    }

    /// Where the cgroup with this path in the tree is found.
    fn folder_of(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let visible = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        if visible.as_os_str().is_empty() { self.point.clone() } else { self.point.join(visible) }
    }
}

fn version_one(mounts: &[Mount], cgroup: &str, controller: Controller) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller.name());
    let mount = mounts.iter().find(|mount| mount.kind == "cgroup" && has(&mount.options))?;
    Some(mount.folder_of(own_path(cgroup, has)?))
}

/// Reads `/proc/self/cgroup`: lines of `number:controllers:path`.
fn own_path(cgroup: &str, matches: impl Fn(&str) -> bool) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        matches(controllers).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 20 0:25 / /sys/fs/cgroup rw - tmpfs cgroup rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    #[test]
    fn version_one_is_found_per_controller() {
        let own = "12:pids:/docker/abc\n5:memory:/a/b\n3:cpu,cpuacct:/\n0::/";
        let found = Hierarchy::find(V1, own).unwrap();
        assert_eq!(found.version, Version::One);
        let folder = |controller| found.folder(controller).to_str().unwrap().to_owned();
        assert_eq!(folder(Controller::Memory), "/sys/fs/cgroup/memory/a/b");
        assert_eq!(folder(Controller::Pids), "/sys/fs/cgroup/pids");
        assert_eq!(folder(Controller::Cpu), "/sys/fs/cgroup/cpu,cpuacct");
    }

    #[test]
    fn version_two_uses_the_parent_of_the_own_cgroup() {
        let tree = tempfile::tempdir().unwrap();
        let point = tree.path().to_str().unwrap();
        fs::create_dir_all(tree.path().join("slice/scope")).unwrap();
        fs::write(tree.path().join("slice/scope/cgroup.type"), "domain\n").unwrap();
        let mounts = format!("30 20 0:25 / {point} rw - cgroup2 cgroup2 rw");
        let found = Hierarchy::find(&mounts, "0::/slice/scope").unwrap();
        assert_eq!(found, Hierarchy { version: Version::Two, folders: vec![tree.path().join("slice")] });
        // The true root may have both; the root of a container may not.
        assert_eq!(Hierarchy::find(&mounts, "0::/").unwrap().folders, vec![tree.path().to_owned()]);
        fs::write(tree.path().join("cgroup.type"), "domain\n").unwrap();
        assert!(Hierarchy::find(&mounts, "0::/").is_err());
    }

    #[test]
    fn nothing_mounted_is_said() {
        assert_eq!(Hierarchy::find("", "0::/").unwrap_err(), "no cgroup tree is mounted");
    }
}
