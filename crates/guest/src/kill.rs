//! Ends processes and waits until they are gone, while everything else is looked after.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::Hangup;
use crate::link::Link;
use crate::processes::{Family, Root};
use crate::sys;

impl Link {
    /// Kills every process but the guest, and returns once they are gone or `patience` is over: whether they are gone.
    pub(crate) fn kill_all(&mut self, patience: Duration) -> Result<bool, Hangup> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut family = Family::new(Root::Guest(own));
        if own != 1 {
            family.freeze();
        }
        self.kill_until_gone(patience, || {
            let any = own == 1 && sys::kill_everyone();
            // In a PID namespace zombies of a parent outside stay signalable: /proc tells them from the living.
            family.kill() > 0 || (any && !Path::new("/proc/self").exists())
        })
    }

    /// Kills every process but the guest once the stream has ended.
    pub(crate) fn kill_all_after_the_end(&mut self, patience: Duration) {
        self.closed = true;
        // Whoever survives SIGKILL hangs in the kernel: there is nobody left to tell.
        self.kill_all(patience).ok();
    }

    /// Kills a command's whole family, as [`Link::kill_all`].
    pub(crate) fn kill_command(&mut self, pid: i32, patience: Duration) -> Result<bool, Hangup> {
        let mut family = Family::new(Root::Command(pid));
        family.freeze();
        self.kill_until_gone(patience, || family.kill() > 0)
    }

    /// Repeats `kill`, which says whether anybody was alive, until nobody is.
    fn kill_until_gone(
        &mut self,
        patience: Duration,
        mut kill: impl FnMut() -> bool,
    ) -> Result<bool, Hangup> {
        const FIRST_PAUSE: Duration = Duration::from_micros(200);
        const LONGEST_PAUSE: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            self.processes.reap();
            if !kill() {
                return Ok(true);
            }
            if begun.elapsed() >= patience {
                return Ok(false);
            }
            self.wait(&[], false, Some(pause))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
