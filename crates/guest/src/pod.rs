//! The guest's mode `pod`: the host comes through relays, which connect to a socket inside and may be cut off at any
//! time. The stream goes on with the next one.
//!
//! Anybody inside can connect to the socket as well. Who does not prove to know the key is refused; and where the
//! guest is the first process, whoever descends from it is not even listened to: relays are started from outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::rand::{GetRandomFlags, getrandom};
use thresher_guest::FrameDecoder;
use thresher_guest::resume::{Door, KeyHash, NONCE, Session, Stream, Visitor, socket_name};

use crate::failure::Hangup;
use crate::wire::{Wanted, Wire};
use crate::{processes, serve, sys};

/// Connections that have not proved themselves, at most. The oldest goes for a new one.
const MOST_VISITORS: usize = 16;

/// How long a connection has to prove itself.
const VISIT: Duration = Duration::from_secs(30);

/// Connections accepted in one look, so that a flood of them starves nobody.
const MOST_ACCEPTED: usize = 8;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Serves as `thresher-guest pod --key-hash HEX --orphan-s SECONDS`.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    match parse(arguments) {
        Some((hash, orphan)) => {
            serve::serve(|| Pod::listen(hash, orphan).map(|pod| Wire::Pod(Box::new(pod))))
        }
        None => ExitCode::FAILURE,
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<(KeyHash, Duration)> {
    let (mut hash, mut orphan) = (None, Duration::from_secs(300));
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--key-hash" => hash = Some(value.parse().ok()?),
            "--orphan-s" => orphan = Duration::from_secs(value.parse().ok()?),
            _ => return None,
        }
    }
    Some((hash?, orphan))
}

/// The stream, its present connection, and whoever else is at the door.
pub(crate) struct Pod {
    listener: OwnedFd,
    door: Door,
    stream: Stream,
    joined: Option<Joined>,
    visitors: Vec<Waiting>,
    /// When the host was last heard, and how long it may be silent.
    heard: Instant,
    orphan: Duration,
}

/// The connection that the stream goes over.
struct Joined {
    socket: OwnedFd,
    session: Session,
}

/// A connection that has not proved itself.
struct Waiting {
    socket: OwnedFd,
    visitor: Visitor,
    since: Instant,
}

impl Pod {
    fn listen(hash: KeyHash, orphan: Duration) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new_abstract_name(socket_name(&hash).as_bytes())?)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self {
            listener,
            door: Door::new(hash),
            stream: Stream::default(),
            joined: None,
            visitors: Vec::new(),
            heard: Instant::now(),
            orphan,
        })
    }

    /// How long the host may still be silent.
    pub(crate) fn time_left(&self) -> Duration {
        self.orphan.saturating_sub(self.heard.elapsed())
    }

    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        fds.extend(self.visitors.iter().map(|waiting| PollFd::new(&waiting.socket, PollFlags::IN)));
        fds.extend(self.joined.as_ref().map(|joined| {
            let output = joined.session.has_output(&self.stream);
            let output = if output { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&joined.socket, PollFlags::IN | output)
        }));
    }

    pub(crate) fn look_after(
        &mut self,
        events: &[PollFlags],
        wanted: Wanted,
        input: &mut FrameDecoder,
        buffer: &mut [u8],
    ) -> Result<(), Hangup> {
        let Some((listener, events)) = events.split_first() else { return Ok(()) };
        let (visitors, joined) = events.split_at(self.visitors.len().min(events.len()));
        if joined.iter().any(|events| !events.is_empty()) {
            self.hear(buffer)?;
        }
        self.hear_visitors(visitors, buffer);
        if !listener.is_empty() {
            self.open();
        }
        self.send();
        if wanted.input {
            self.take_ready(input);
        }
        if self.time_left().is_zero() { Err(Hangup) } else { Ok(()) }
    }

    pub(crate) fn take_ready(&mut self, input: &mut FrameDecoder) -> bool {
        let before = input.buffered();
        while !self.stream.readable().is_empty() {
            let bytes = self.stream.readable();
            let count = bytes.len();
            input.push(bytes);
            self.stream.take(count);
        }
        input.buffered() > before
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = self.stream.write(bytes);
        self.send();
        count
    }

    /// Reads what came on the present connection, one piece.
    fn hear(&mut self, buffer: &mut [u8]) -> Result<(), Hangup> {
        let Some(Joined { socket, session }) = &mut self.joined else { return Ok(()) };
        let before = session.heard();
        let lives = match receive(socket, buffer) {
            Some(bytes) => session.push(bytes, &mut self.stream).is_ok(),
            None => false,
        };
        if session.heard() > before {
            self.heard = Instant::now();
        }
        if session.is_closed() {
            return Err(Hangup);
        }
        if !lives {
            self.joined = None;
        }
        Ok(())
    }

    /// Sends what can be sent without waiting.
    fn send(&mut self) {
        while let Some(Joined { socket, session }) = &mut self.joined {
            let output = session.output(&mut self.stream);
            if output.is_empty() {
                return;
            }
            match rustix::net::send(&*socket, output, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => session.sent(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.joined = None,
            }
        }
    }

    fn hear_visitors(&mut self, events: &[PollFlags], buffer: &mut [u8]) {
        let mut events = events.iter();
        for mut waiting in std::mem::take(&mut self.visitors) {
            let ready = events.next().is_some_and(|events| !events.is_empty());
            let said = if ready { receive(&waiting.socket, buffer) } else { Some(&[][..]) };
            match said.map(|bytes| self.door.hear(&mut waiting.visitor, bytes, &mut self.stream)) {
                Some(Ok(Some(session))) => self.join(waiting.socket, session),
                Some(Ok(None)) if waiting.since.elapsed() < VISIT => self.visitors.push(waiting),
                // Gone, refused, or too slow.
                _ => {}
            }
        }
    }

    /// A new connection takes the place of the old one.
    fn join(&mut self, socket: OwnedFd, mut session: Session) {
        self.heard = Instant::now();
        let lives = session.push(&[], &mut self.stream).is_ok();
        self.joined = lives.then_some(Joined { socket, session });
    }

    /// Accepts connections.
    fn open(&mut self) {
        for _ in 0..MOST_ACCEPTED {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
            self.welcome(socket);
        }
    }

    fn welcome(&mut self, socket: OwnedFd) {
        let mut nonce = [0; NONCE];
        if !may_be_relay(&socket) || getrandom(&mut nonce, GetRandomFlags::empty()) != Ok(NONCE) {
            return;
        }
        let (visitor, challenge) = self.door.knocked(nonce);
        // The few bytes fit into a fresh socket.
        if rustix::net::send(&socket, &challenge, SendFlags::NOSIGNAL) != Ok(challenge.len()) {
            return;
        }
        if self.visitors.len() >= MOST_VISITORS {
            self.visitors.remove(0);
        }
        self.visitors.push(Waiting { socket, visitor, since: Instant::now() });
    }
}

/// Whether the process at the other end may be a relay. The parent of what is started from outside is not in the
/// sandbox's process namespace; everything else in it descends from the guest.
fn may_be_relay(socket: &OwnedFd) -> bool {
    const FIRST: i32 = 1;
    let first = rustix::process::getpid().as_raw_nonzero().get() == FIRST;
    !first || sys::peer(socket.as_fd()).and_then(processes::parent) == Some(0)
}

/// One piece of what came; `None` once the connection is over.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => None,
        Ok((count, _)) => Some(&buffer[..count]),
        Err(Errno::AGAIN | Errno::INTR) => Some(&[]),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use thresher_guest::resume::Key;

    use super::*;

    #[test]
    fn arguments_are_read_strictly() {
        let hash = Key::new([1; 32]).hash();
        let hex = hash.to_string();
        let parsed = |words: &[&str]| parse(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(parsed(&["--key-hash", &hex]), Some((hash, Duration::from_secs(300))));
        let all = parsed(&["--orphan-s", "7", "--key-hash", &hex]);
        assert_eq!(all, Some((hash, Duration::from_secs(7))));
        for words in [
            &[][..],
            &["--orphan-s", "7"],
            &["--key-hash"],
            &["--key-hash", "00"],
            &["--key-hash", &hex, "--orphan-s", "-1"],
            &["--key-hash", &hex, "--other", "1"],
        ] {
            assert_eq!(parsed(words), None, "{words:?}");
        }
    }
}
