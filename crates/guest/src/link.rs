//! The stream to the host, and the one place where the guest waits.
//!
//! Whatever the guest waits for, it goes on reaping children, reading the pipes of background processes and noticing
//! that the host is gone. So a host that does not read its answers blocks nobody inside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thresher_guest::{
    Answer, CHUNK, Failure, FailureKind, FrameDecoder, Operation, Request, Response, encode_frame, put_item,
};

use crate::failure::{Hangup, Stop, failure};
use crate::processes::Processes;

/// Bytes read at once from any descriptor: a pipe's usual capacity.
pub(crate) const READ: usize = 64 << 10;

/// Input is not read while more than this is unprocessed: the host has to wait.
const MOST_INPUT: usize = 2 << 20;

/// How long a long operation may go without looking after everything else.
const BREATH: Duration = Duration::from_millis(5);

/// The stream, and the processes that must be looked after while waiting for it.
pub(crate) struct Link {
    pub(crate) processes: Processes,
    input: FrameDecoder,
    output: Vec<u8>,
    buffer: Vec<u8>,
    id: u32,
    body_left: u64,
    cancelled: bool,
    /// Whether the stream has ended: only processes are waited for then.
    pub(crate) closed: bool,
    last_breath: Instant,
}

/// What a wait ended with: per given pipe whether it can be read.
pub(crate) type Ready = Vec<bool>;

impl Link {
    /// Takes standard input and output for the stream.
    pub(crate) fn new() -> io::Result<Self> {
        rustix::io::ioctl_fionbio(io::stdin(), true)?;
        rustix::io::ioctl_fionbio(io::stdout(), true)?;
        Ok(Self {
            processes: Processes::new()?,
            input: FrameDecoder::default(),
            output: Vec::new(),
            buffer: vec![0; READ],
            id: 0,
            body_left: 0,
            cancelled: false,
            closed: false,
            last_breath: Instant::now(),
        })
    }

    /// Waits for the next operation.
    pub(crate) fn next_operation(&mut self) -> Result<Operation, Hangup> {
        loop {
            match self.input.take().map_err(|_| Hangup)? {
                Some(Request::Start { id, operation, body }) => {
                    (self.id, self.body_left, self.cancelled) = (id, body, false);
                    return Ok(operation);
                }
                // Crossed with the answer to what it was to end.
                Some(Request::Cancel { .. }) => {}
                Some(Request::Body(_)) => return Err(Hangup),
                None => drop(self.wait(&[], false, None)?),
            }
        }
    }

    /// Waits for the next piece of the operation's body; `None` after the last.
    pub(crate) fn next_body(&mut self) -> Result<Option<Bytes>, Hangup> {
        while self.body_left > 0 {
            match self.input.take().map_err(|_| Hangup)? {
                Some(Request::Body(bytes)) => {
                    self.body_left = self.body_left.checked_sub(bytes.len() as u64).ok_or(Hangup)?;
                    return Ok(Some(bytes));
                }
                Some(Request::Cancel { .. }) => {}
                Some(Request::Start { .. }) => return Err(Hangup),
                None => drop(self.wait(&[], false, None)?),
            }
        }
        Ok(None)
    }

    /// Waits for the whole body, which must fit into `limit` bytes.
    pub(crate) fn whole_body(&mut self, limit: u64) -> Result<Vec<u8>, Stop> {
        if self.body_left > limit {
            return Err(failure(FailureKind::TooLarge, "", "the request is too large").into());
        }
        let mut body = Vec::new();
        while let Some(bytes) = self.next_body()? {
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// Sends a piece of the answer's body, however long.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Hangup> {
        for piece in bytes.chunks(CHUNK) {
            let piece = Response::Body { id: self.id, bytes: Bytes::copy_from_slice(piece) };
            self.queue(&piece)?;
            if self.output.len() >= CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends items as the answer's body.
    pub(crate) fn send_items<T: serde::Serialize>(
        &mut self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<(), Stop> {
        let mut body = Vec::new();
        for item in items {
            put_item(&item, &mut body).map_err(|error| failure(FailureKind::Other, "", error.to_string()))?;
            if body.len() >= CHUNK {
                self.send(&body)?;
                body.clear();
            }
        }
        Ok(self.send(&body)?)
    }

    /// Ends the operation: takes what is left of its body and sends the answer.
    pub(crate) fn end(&mut self, outcome: Result<Answer, Failure>) -> Result<(), Hangup> {
        while self.next_body()?.is_some() {}
        self.queue(&Response::End { id: self.id, outcome })?;
        self.flush()?;
        // An answer of many megabytes must not stay in memory.
        if self.output.capacity() > 4 * CHUNK {
            self.output = Vec::new();
        }
        Ok(())
    }

    fn queue(&mut self, response: &Response) -> Result<(), Hangup> {
        encode_frame(response, &mut self.output).map_err(|_| Hangup)
    }

    fn flush(&mut self) -> Result<(), Hangup> {
        let mut written = 0;
        let output = std::mem::take(&mut self.output);
        while written < output.len() {
            match rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), &output[written..])) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => drop(self.wait(&[], true, None)?),
                Err(_) => return Err(Hangup),
            }
        }
        self.output = output;
        self.output.clear();
        Ok(())
    }

    /// Whether the host asked to end the operation under way. Looks at what has arrived, without waiting.
    pub(crate) fn cancelled(&mut self) -> Result<bool, Hangup> {
        while let Some(request) = self.input.take().map_err(|_| Hangup)? {
            match request {
                Request::Cancel { id } => self.cancelled |= id == self.id,
                Request::Start { .. } | Request::Body(_) => return Err(Hangup),
            }
        }
        Ok(self.cancelled)
    }

    /// Looks after everything else, now and then: to be called between the steps of a long operation.
    pub(crate) fn breathe(&mut self) -> Result<(), Hangup> {
        if self.last_breath.elapsed() >= BREATH {
            self.wait(&[], false, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Waits for input, a child's end, one of `pipes`, room for output (where `output` is asked for) or the end of
    /// `timeout`, and does what is always to be done: takes input, reaps, drains.
    pub(crate) fn wait(
        &mut self,
        pipes: &[BorrowedFd<'_>],
        output: bool,
        timeout: Option<Duration>,
    ) -> Result<Ready, Hangup> {
        const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL);
        let wanted = |wanted: bool, flags| if wanted { flags } else { PollFlags::empty() };
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let signals = self.processes.signals.as_fd();
        // A closed stream would end every wait at once.
        let stream = if self.closed { [signals, signals] } else { [stdin.as_fd(), stdout.as_fd()] };
        let take_input = !self.closed && self.input.buffered() < MOST_INPUT;
        let mut fds = Vec::with_capacity(3 + pipes.len() + self.processes.background.len());
        fds.push(PollFd::from_borrowed_fd(stream[0], wanted(take_input, PollFlags::IN)));
        fds.push(PollFd::from_borrowed_fd(stream[1], wanted(output, PollFlags::OUT)));
        fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
        fds.extend(pipes.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        fds.extend(self.processes.background.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = timeout.map(|time| Timespec::try_from(time).unwrap_or(FOREVER));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of kernel memory: what was ready will be so the next time.
            Err(_) => fds.iter_mut().for_each(PollFd::clear_revents),
        }
        let ready: Ready = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let gone = fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
            || fds[1].revents().intersects(GONE)
            || (!take_input && fds[0].revents().intersects(GONE));
        drop(fds);
        if gone {
            return Err(Hangup);
        }
        self.look_after(&ready, ready.len() - self.processes.background.len())?;
        Ok(ready[3..3 + pipes.len()].to_vec())
    }

    fn look_after(&mut self, ready: &[bool], first_background: usize) -> Result<(), Hangup> {
        self.last_breath = Instant::now();
        if ready[0] {
            self.take_input()?;
        }
        if ready[2] {
            self.processes.reap();
        }
        let mut ready = ready[first_background..].iter();
        let buffer = &mut self.buffer;
        // One piece per look: a background `yes` must not starve the rest.
        self.processes.background.retain(|pipe| {
            let readable = ready.next().is_some_and(|ready| *ready);
            !readable || !matches!(rustix::io::read(pipe, &mut **buffer), Ok(0))
        });
        Ok(())
    }

    fn take_input(&mut self) -> Result<(), Hangup> {
        match rustix::io::read(io::stdin(), &mut *self.buffer) {
            Ok(0) => Err(Hangup),
            Ok(count) => {
                self.input.push(&self.buffer[..count]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Hangup),
        }
    }

    /// Reads what is in a pipe right now, up to `limit` bytes, into `sink`. Returns whether the pipe is at its end.
    pub(crate) fn drain(&mut self, pipe: impl AsFd, limit: usize, mut sink: impl FnMut(&[u8])) -> bool {
        let mut left = limit;
        while left > 0 {
            let most = left.min(READ);
            match rustix::io::read(&pipe, &mut self.buffer[..most]) {
                Ok(0) => return true,
                Ok(count) => {
                    sink(&self.buffer[..count]);
                    left -= count;
                    if count < most {
                        return false;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

const FOREVER: Timespec = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
