//! The system calls that no library wraps: everything unsafe but fork and exec is here.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// How a child ended and what it used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    /// As `wait4` gives it.
    pub(crate) status: i32,
    /// User and system time, with waited-for children.
    pub(crate) cpu: Duration,
    /// Largest resident set in bytes.
    pub(crate) max_rss: u64,
}

/// What the kernel takes for an action; the C library's own form leaves out two signals that it keeps for itself.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Gives every signal its default action and blocks all of them, so that no system call is interrupted and children
/// start from a clean slate: they only have to unblock.
#[expect(unsafe_code, reason = "sigaction and sigprocmask have no safe wrapper")]
pub(crate) fn take_over_signals() {
    const SIGNALS: libc::c_int = 64;
    let action = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: SIG_DFL installs no handler, and the set is filled before it is used. Failures for SIGKILL and SIGSTOP are
    // expected. The action has the layout of the kernel's, with a mask of 8 bytes.
    unsafe {
        for signal in 1..=SIGNALS {
            let none = std::ptr::null_mut::<KernelAction>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, none, size_of::<u64>());
        }
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Opens a descriptor that becomes readable when a child ends.
#[expect(unsafe_code, reason = "signalfd has no safe wrapper")]
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialized before use, and a non-negative result is a descriptor that is ours.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Reaps one ended child, whichever, without waiting.
#[expect(unsafe_code, reason = "wait4 has no safe wrapper")]
pub(crate) fn reap() -> Option<(i32, Exit)> {
    let mut status = 0;
    // SAFETY: both out-parameters are valid for writing; an all-zero rusage is a valid value.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        (libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::__WALL, &raw mut usage), usage)
    };
    if pid <= 0 {
        return None;
    }
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    let max_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024);
    Some((pid, Exit { status, cpu, max_rss }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Sends SIGKILL to every process that may be signalled, but the caller and PID 1. Returns whether there was one.
#[expect(unsafe_code, reason = "kill with -1 has no safe wrapper")]
pub(crate) fn kill_everyone() -> bool {
    // SAFETY: the call touches no memory.
    unsafe { libc::kill(-1, libc::SIGKILL) == 0 }
}

/// The process that connected to this end of a socket; `None` where it is in no namespace that this process sees.
#[expect(unsafe_code, reason = "the safe wrapper takes no process for granted to be visible")]
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: the out-parameters are valid for writing, and an all-zero `ucred` is a valid value.
    let (done, peer) = unsafe {
        let mut peer: libc::ucred = mem::zeroed();
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        let done = libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        );
        (done, peer)
    };
    (done == 0 && peer.pid > 0).then_some(peer.pid)
}

/// Marks every inherited descriptor from 3 on as close-on-exec; on kernels before 5.11 nothing happens.
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
pub(crate) fn close_inherited_on_exec() {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: the call only sets descriptor flags.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
    }
}
