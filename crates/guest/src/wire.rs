//! What carries the stream to the host: two pipes, or connections that come and go.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use thresher_guest::FrameDecoder;

use crate::failure::Hangup;
use crate::pod::Pod;

const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL);

/// The carrier of the stream.
pub(crate) enum Wire {
    /// Standard input and output: the guest ends with them.
    Pipes,
    /// A socket that a relay connects to.
    Pod(Box<Pod>),
}

/// What a wait is for, as far as the stream goes.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Bytes from the host.
    pub(crate) input: bool,
    /// Room for bytes to the host.
    pub(crate) output: bool,
}

impl Wire {
    /// Takes standard input and output for the stream.
    pub(crate) fn pipes() -> io::Result<Self> {
        rustix::io::ioctl_fionbio(io::stdin(), true)?;
        rustix::io::ioctl_fionbio(io::stdout(), true)?;
        Ok(Self::Pipes)
    }

    /// Appends the descriptors that are to be polled.
    pub(crate) fn watch<'a>(&'a self, standard: &'a Standard, wanted: Wanted, fds: &mut Vec<PollFd<'a>>) {
        let flags = |wanted: bool, flags| if wanted { flags } else { PollFlags::empty() };
        match self {
            Self::Pipes => {
                fds.push(PollFd::new(&standard.input, flags(wanted.input, PollFlags::IN)));
                fds.push(PollFd::new(&standard.output, flags(wanted.output, PollFlags::OUT)));
            }
            Self::Pod(pod) => pod.watch(fds),
        }
    }

    /// After how long a wait must end at the latest; `None` if it need not.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        match self {
            Self::Pipes => None,
            Self::Pod(pod) => Some(pod.time_left()),
        }
    }

    /// Takes bytes that have come already. Returns whether there were any.
    pub(crate) fn take_ready(&mut self, input: &mut FrameDecoder) -> bool {
        match self {
            Self::Pipes => false,
            Self::Pod(pod) => pod.take_ready(input),
        }
    }

    /// Does what the polled descriptors, in the order of [`Wire::watch`], ask for.
    pub(crate) fn look_after(
        &mut self,
        events: &[PollFlags],
        wanted: Wanted,
        input: &mut FrameDecoder,
        buffer: &mut [u8],
    ) -> Result<(), Hangup> {
        match self {
            Self::Pipes => look_after_pipes(events, wanted, input, buffer),
            Self::Pod(pod) => pod.look_after(events, wanted, input, buffer),
        }
    }

    /// Sends bytes, as many as can be without waiting; returns how many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Hangup> {
        match self {
            Self::Pipes => match rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), bytes)) {
                Ok(count) => Ok(count),
                Err(Errno::AGAIN) => Ok(0),
                Err(_) => Err(Hangup),
            },
            Self::Pod(pod) => Ok(pod.write(bytes)),
        }
    }

    /// Whether the stream ended because the host was away for too long.
    pub(crate) fn is_orphaned(&self) -> bool {
        match self {
            Self::Pipes => false,
            Self::Pod(pod) => pod.time_left().is_zero(),
        }
    }
}

/// Standard input and output, held so that they can be borrowed.
pub(crate) struct Standard {
    input: io::Stdin,
    output: io::Stdout,
}

impl Standard {
    pub(crate) fn new() -> Self {
        Self { input: io::stdin(), output: io::stdout() }
    }
}

fn look_after_pipes(
    events: &[PollFlags],
    wanted: Wanted,
    input: &mut FrameDecoder,
    buffer: &mut [u8],
) -> Result<(), Hangup> {
    let [from_host, to_host] = events else { return Ok(()) };
    let gone = from_host.intersects(PollFlags::ERR | PollFlags::NVAL)
        || to_host.intersects(GONE)
        || (!wanted.input && from_host.intersects(GONE));
    if gone {
        return Err(Hangup);
    }
    if from_host.is_empty() {
        return Ok(());
    }
    match rustix::io::read(io::stdin().as_fd(), &mut *buffer) {
        Ok(0) => Err(Hangup),
        Ok(count) => {
            input.push(&buffer[..count]);
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(_) => Err(Hangup),
    }
}
