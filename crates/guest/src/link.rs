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
use crate::wire::{Standard, Wanted, Wire};

/// Bytes read at once from any descriptor: a pipe's usual capacity.
pub(crate) const READ: usize = 64 << 10;

/// Input is not read while more than this is unprocessed: the host has to wait.
const MOST_INPUT: usize = 2 << 20;

/// How long a long operation may go without looking after everything else.
const BREATH: Duration = Duration::from_millis(5);

/// The stream, and the processes that must be looked after while waiting for it.
pub(crate) struct Link {
    pub(crate) processes: Processes,
    pub(crate) wire: Wire,
    standard: Standard,
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
    /// Takes `wire` for the stream.
    pub(crate) fn new(wire: Wire) -> io::Result<Self> {
        Ok(Self {
            processes: Processes::new()?,
            wire,
            standard: Standard::new(),
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
            match self.wire.write(&output[written..])? {
                0 => drop(self.wait(&[], true, None)?),
                count => written += count,
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
        let wanted = Wanted { input: !self.closed && self.input.buffered() < MOST_INPUT, output };
        // What lies ready is not announced by any descriptor.
        let ready = wanted.input && self.wire.take_ready(&mut self.input);
        let timeout = if ready { Some(Duration::ZERO) } else { self.no_longer_than_the_wire(timeout) };
        let mut fds = Vec::with_capacity(4 + pipes.len() + self.processes.background.len());
        fds.push(PollFd::new(&self.processes.signals, PollFlags::IN));
        fds.extend(pipes.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        fds.extend(self.processes.background.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // A closed stream would end every wait at once.
        if !self.closed {
            self.wire.watch(&self.standard, wanted, &mut fds);
        }
        let timeout = timeout.map(|time| Timespec::try_from(time).unwrap_or(FOREVER));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of kernel memory: what was ready will be so the next time.
            Err(_) => fds.iter_mut().for_each(PollFd::clear_revents),
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let (signals, events) = events.split_at(1);
        let (pipes, events) = events.split_at(pipes.len());
        let (background, wire) = events.split_at(self.processes.background.len());
        if !self.closed {
            self.wire.look_after(wire, wanted, &mut self.input, &mut self.buffer)?;
        }
        self.look_after_processes(signals[0], background);
        Ok(pipes.iter().map(|events| !events.is_empty()).collect())
    }

    fn no_longer_than_the_wire(&self, timeout: Option<Duration>) -> Option<Duration> {
        let wire = self.wire.time_left().filter(|_| !self.closed);
        match (timeout, wire) {
            (Some(timeout), Some(wire)) => Some(timeout.min(wire)),
            (timeout, wire) => timeout.or(wire),
        }
    }

    fn look_after_processes(&mut self, signals: PollFlags, background: &[PollFlags]) {
        self.last_breath = Instant::now();
        if !signals.is_empty() {
            self.processes.reap();
        }
        let mut events = background.iter();
        let buffer = &mut self.buffer;
        // One piece per look: a background `yes` must not starve the rest.
        self.processes.background.retain(|pipe| {
            let readable = events.next().is_some_and(|events| !events.is_empty());
            !readable || !matches!(rustix::io::read(pipe, &mut **buffer), Ok(0))
        });
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
