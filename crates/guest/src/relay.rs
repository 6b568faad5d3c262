//! The guest's mode `relay`: started from outside beside the guest, it passes bytes between its standard streams and
//! the guest's socket, and knows nothing of what they mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::DumpableBehavior;

/// Most bytes under way in one direction.
const BUFFER: usize = 64 << 10;

/// The guest may just be starting: tries to connect, and the pause between them.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// Relays as `thresher-guest relay NAME`, until either side ends.
pub(crate) fn main(name: Option<&str>) -> ExitCode {
    match name.map(relay) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn relay(name: &str) -> io::Result<()> {
    // Before the first byte: what passes here is nobody's inside.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    crate::sys::take_over_signals();
    let socket = connect(name)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let (input, output) = (io::stdin(), io::stdout());
    rustix::io::ioctl_fionbio(&input, true)?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let mut ways = [Way::new(input.as_fd(), socket.as_fd()), Way::new(socket.as_fd(), output.as_fd())];
    loop {
        wait(&ways)?;
        for way in &mut ways {
            if way.pass()? {
                return Ok(());
            }
        }
    }
}

fn connect(name: &str) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let mut last = Errno::CONNREFUSED;
    for _ in 0..TRIES {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(errno) => last = errno,
        }
        std::thread::sleep(PAUSE);
    }
    Err(last.into())
}

/// Waits until a way can be gone on with.
fn wait(ways: &[Way<'_>; 2]) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = ways.iter().map(Way::next).collect();
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// One direction: bytes read and not yet written.
struct Way<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Vec<u8>,
    held: std::ops::Range<usize>,
}

impl<'a> Way<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Self {
        Self { from, to, buffer: vec![0; BUFFER], held: 0..0 }
    }

    fn next(&self) -> PollFd<'_> {
        match self.held.is_empty() {
            true => PollFd::from_borrowed_fd(self.from, PollFlags::IN),
            false => PollFd::from_borrowed_fd(self.to, PollFlags::OUT),
        }
    }

    /// Reads and writes what can be without waiting. Returns whether the way is at its end.
    fn pass(&mut self) -> io::Result<bool> {
        if self.held.is_empty() {
            match rustix::io::read(self.from, &mut *self.buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => self.held = 0..count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        while !self.held.is_empty() {
            match rustix::io::write(self.to, &self.buffer[self.held.clone()]) {
                Ok(count) => self.held.start += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }
}
