//! What the launcher does while the sandbox lives: wait, and end it when the runner lets go.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::clone::Born;
use super::report::{At, Failure, HELD, HOLD, Step};
use super::run::say;

/// Lets the first process begin, and receives from it the tree that it writes to; `None` if it failed before.
pub(super) fn see_off(link: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    send(link, b"go", SendFlags::NOSIGNAL).at(Step::Namespaces, || "go")?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(link, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .at(Step::Root, || "descriptor")?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// The first process's side of [`see_off`], part one: waits for the word to begin. An end means that the launcher died.
pub(super) fn wait_for_go(link: &OwnedFd) -> Result<(), Failure> {
    let mut word = [0; 2];
    let (read, _) = rustix::net::recv(link, &mut word[..], RecvFlags::empty()).at(Step::Users, || "go")?;
    if read == 0 {
        return Err(Failure { step: Step::Users, errno: 0, detail: "the launcher ended".into() });
    }
    Ok(())
}

/// Part two: hands over the tree that is written to.
pub(super) fn hand_over(link: &OwnedFd, tree: &OwnedFd) -> Result<(), Failure> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [tree.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(link, &[std::io::IoSlice::new(b"t")], &mut control, SendFlags::NOSIGNAL)
        .at(Step::Root, || "descriptor")?;
    Ok(())
}

/// Why the waiting ended.
enum Event {
    /// The first process ended.
    Ended,
    /// The runner let go or died.
    LetGo,
    /// The runner asks to keep the written tree.
    Hold,
}

/// Waits until the sandbox ends or the runner lets go; afterwards nothing of it lives.
pub(super) fn until_the_end(born: &Born, written: Option<&OwnedFd>) -> Result<(), Failure> {
    give_away_output()?;
    let event = next_event(born)?;
    end(born)?;
    if let (Event::Hold, Some(tree)) = (event, written) {
        say(&format!("{HELD}{}\n", tree.as_raw_fd()));
        wait_for_release();
    }
    Ok(())
}

/// Kills the first process and waits for its end.
pub(super) fn end(born: &Born) -> Result<(), Failure> {
    // Fails only if it has ended by itself.
    pidfd_send_signal(&born.pidfd, Signal::KILL).ok();
    reap(born)
}

/// The launcher must not keep the guest's output open, or the runner would not see its end.
fn give_away_output() -> Result<(), Failure> {
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).at(Step::Wait, || "standard output")
}

fn next_event(born: &Born) -> Result<Event, Failure> {
    loop {
        let (input, control) = (rustix::stdio::stdin(), rustix::stdio::stderr());
        let mut fds = [
            PollFd::new(&born.pidfd, PollFlags::IN),
            // Nothing asked for: only the end of the pipe is reported, and what is in it stays for the guest.
            PollFd::from_borrowed_fd(input, PollFlags::empty()),
            PollFd::from_borrowed_fd(control, PollFlags::IN | PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).at(Step::Wait, || "poll"),
        }
        let [child, input, control] = fds.map(|fd| fd.revents());
        if child.contains(PollFlags::IN) {
            return Ok(Event::Ended);
        }
        if control.contains(PollFlags::IN) {
            return Ok(if read_control() == Some(HOLD) { Event::Hold } else { Event::LetGo });
        }
        if !input.is_empty() || !control.is_empty() {
            return Ok(Event::LetGo);
        }
    }
}

/// The next byte from the runner; `None` at the end.
fn read_control() -> Option<u8> {
    let mut byte = [0; 1];
    loop {
        match rustix::io::read(rustix::stdio::stderr(), &mut byte) {
            Ok(0) => return None,
            Ok(_) => return Some(byte[0]),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn wait_for_release() {
    while read_control().is_some() {}
}

/// Waits for a first process that is about to end by itself, after saying why.
pub(super) fn let_end(born: &Born) -> Failure {
    let early = Failure { step: Step::Wait, errno: 0, detail: "it ended early".into() };
    reap(born).err().unwrap_or(early)
}

/// Waits for the first process. In a PID namespace this returns only after every process in it was reaped.
fn reap(born: &Born) -> Result<(), Failure> {
    loop {
        match waitid(WaitId::PidFd(born.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Step::Wait, || "first process"),
        }
    }
}
