//! What the launcher says on the control socket.

use std::fmt;
use std::str::FromStr;

/// Sent by the runner: kill the sandbox but keep what it wrote until the socket closes.
pub const HOLD: u8 = b'h';

/// Start of the launcher's answer to [`HOLD`]; a descriptor number and a newline follow. The written tree is then
/// found at `/proc/<launcher>/fd/<number>`.
pub const HELD: &str = "held ";

/// Start of the line in which the launcher of a plain process says what Landlock enforces.
pub const LANDLOCK: &str = "landlock ";

/// A step of the launch. The names are stable: the runner maps them to remedies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the plan.
    Plan,
    /// Making or joining the cgroup.
    Cgroup,
    /// Making the namespaces.
    Namespaces,
    /// Mapping user ids.
    Users,
    /// Mounting the root file system.
    Root,
    /// Mounting a folder of the machine.
    Bind,
    /// Changing the root.
    Pivot,
    /// Making folders and files inside.
    Files,
    /// Making `/dev`.
    Devices,
    /// Mounting `/proc`.
    Proc,
    /// Bringing the loopback interface up.
    Network,
    /// Giving up capabilities and setting limits.
    Privileges,
    /// Restricting the file system with Landlock.
    Landlock,
    /// Starting the guest.
    Exec,
    /// Waiting for the guest.
    Wait,
}

const NAMES: [(Step, &str, &str); 15] = [
    (Step::Plan, "plan", "read the plan"),
    (Step::Cgroup, "cgroup", "make or join the cgroup"),
    (Step::Namespaces, "namespaces", "make the namespaces"),
    (Step::Users, "users", "map user ids"),
    (Step::Root, "root", "mount the root file system"),
    (Step::Bind, "bind", "mount a folder of the machine read-only"),
    (Step::Pivot, "pivot", "change the root"),
    (Step::Files, "files", "make folders and files inside"),
    (Step::Devices, "devices", "make /dev"),
    (Step::Proc, "proc", "mount /proc"),
    (Step::Network, "network", "bring the loopback interface up"),
    (Step::Privileges, "privileges", "give up capabilities and set limits"),
    (Step::Landlock, "landlock", "restrict the file system"),
    (Step::Exec, "exec", "start the guest"),
    (Step::Wait, "wait", "wait for the guest"),
];

impl Step {
    fn row(self) -> (&'static str, &'static str) {
        let row = NAMES.iter().find(|row| row.0 == self).expect("every step has a row");
        (row.1, row.2)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.row().1)
    }
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// The operating system's error number; 0 where there is none.
    pub errno: i32,
    /// What it was about: a path, a size.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "failed {} {} {}", self.step.row().0, self.errno, self.detail.replace('\n', " "))
    }
}

impl FromStr for Failure {
    type Err = ();

    /// Reads a line back that `Display` wrote.
    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.strip_prefix("failed ").ok_or(())?.splitn(3, ' ');
        let name = words.next().ok_or(())?;
        let step = NAMES.iter().find(|row| row.1 == name).ok_or(())?.0;
        let errno = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
        Ok(Self { step, errno, detail: words.next().unwrap_or_default().to_owned() })
    }
}

#[cfg(feature = "bin")]
impl Failure {
    /// An error of the standard library.
    pub(super) fn io(step: Step, detail: impl Into<String>, error: &std::io::Error) -> Self {
        let detail = match error.raw_os_error() {
            Some(_) => detail.into(),
            None => format!("{}: {error}", detail.into()),
        };
        Self { step, errno: error.raw_os_error().unwrap_or(0), detail }
    }
}

/// Names the step at which a call failed.
#[cfg(feature = "bin")]
pub(super) trait At<T> {
    /// `detail` is only made when it is needed.
    fn at<D: Into<String>>(self, step: Step, detail: impl FnOnce() -> D) -> Result<T, Failure>;
}

#[cfg(feature = "bin")]
impl<T> At<T> for rustix::io::Result<T> {
    fn at<D: Into<String>>(self, step: Step, detail: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step, errno: errno.raw_os_error(), detail: detail().into() })
    }
}

#[cfg(feature = "bin")]
impl<T> At<T> for std::io::Result<T> {
    fn at<D: Into<String>>(self, step: Step, detail: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|error| Failure::io(step, detail(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_the_wire() {
        for (step, _, _) in NAMES {
            for detail in ["", "/proc", "a path with spaces"] {
                let failure = Failure { step, errno: 13, detail: detail.into() };
                assert_eq!(failure.to_string().parse(), Ok(failure));
            }
        }
        for line in ["", "failed", "failed nothing 1 x", "failed root x y", "thread 'main' panicked"] {
            assert_eq!(line.parse::<Failure>(), Err(()), "{line}");
        }
    }
}
