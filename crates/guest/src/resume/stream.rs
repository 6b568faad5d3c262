//! One end of the stream: counted bytes in both directions, kept until the other end has used them.

use std::collections::VecDeque;

/// Bytes that one end keeps for the other at most, per direction. Whoever writes more has to wait.
pub const WINDOW: usize = 1 << 20;

/// After so many used bytes the other end is told. Small enough that it never has to wait for the word.
const TELL_AFTER: u64 = (WINDOW / 4) as u64;

/// Why two ends cannot go on with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What the other end says it has is not what this one keeps.
    #[error("the two ends do not fit together")]
    Diverged,
    /// More bytes came than were allowed.
    #[error("more bytes came than were allowed")]
    Overrun,
    /// A frame is not what the other end would send.
    #[error("a frame was forged, damaged or lost")]
    Forged,
}

/// One end of the stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Written here and not known to be used there; the first of them is number `used_there`.
    outgoing: VecDeque<u8>,
    used_there: u64,
    /// Number of the next byte for the present connection.
    next: u64,
    /// Come from there and not taken here.
    incoming: VecDeque<u8>,
    /// How many bytes have ever come.
    received: u64,
    /// What the other end was told of [`Stream::used`] on the present connection.
    told: Option<u64>,
}

impl Stream {
    /// Takes bytes to be sent, as many as there is room for; returns how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.outgoing.extend(&bytes[..taken]);
        taken
    }

    /// Returns how many bytes may be written now.
    pub fn room(&self) -> usize {
        WINDOW - self.outgoing.len()
    }

    /// Returns bytes that have come; empty if there are none.
    pub fn readable(&self) -> &[u8] {
        self.incoming.as_slices().0
    }

    /// Takes `count` of the readable bytes away.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&mut self, count: usize) {
        self.incoming.drain(..count);
        if self.incoming.is_empty() && self.incoming.capacity() > WINDOW / 4 {
            self.incoming = VecDeque::new();
        }
    }

    /// How many bytes have ever come: where the other end goes on.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    fn used(&self) -> u64 {
        self.received - self.incoming.len() as u64
    }

    /// Begins a connection to an end that has received so many bytes.
    pub(super) fn resume(&mut self, received_there: u64) -> Result<(), Broken> {
        if received_there < self.used_there || received_there > self.written() {
            return Err(Broken::Diverged);
        }
        self.next = received_there;
        self.told = None;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.used_there + self.outgoing.len() as u64
    }

    /// Whether bytes wait for the present connection.
    pub(super) fn has_unsent(&self) -> bool {
        self.next < self.written()
    }

    /// Appends up to `most` bytes that were not yet sent on the present connection.
    pub(super) fn send_into(&mut self, out: &mut Vec<u8>, most: usize) {
        let start = self.kept_before(self.next);
        let end = self.outgoing.len().min(start + most);
        out.extend(self.outgoing.range(start..end));
        self.next += (end - start) as u64;
    }

    /// How many kept bytes come before byte `number`.
    fn kept_before(&self, number: u64) -> usize {
        usize::try_from(number - self.used_there).expect("at most a window is kept")
    }

    /// Takes bytes that came.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.incoming.len() + bytes.len() > WINDOW {
            return Err(Broken::Overrun);
        }
        self.incoming.extend(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what the other end has used.
    pub(super) fn used_there(&mut self, used: u64) -> Result<(), Broken> {
        if used < self.used_there || used > self.next {
            return Err(Broken::Diverged);
        }
        self.outgoing.drain(..self.kept_before(used));
        self.used_there = used;
        if self.outgoing.is_empty() && self.outgoing.capacity() > WINDOW / 4 {
            self.outgoing = VecDeque::new();
        }
        Ok(())
    }

    /// What the other end should be told to forget, if it is time.
    pub(super) fn tell_used(&mut self) -> Option<u64> {
        let used = self.used();
        if self.told.is_some_and(|told| used < told + TELL_AFTER) {
            return None;
        }
        self.told = Some(used);
        Some(used)
    }

    /// Whether [`Stream::tell_used`] would say something.
    pub(super) fn has_to_tell(&self) -> bool {
        self.told.is_none_or(|told| self.used() >= told + TELL_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_stops_at_the_window_and_goes_on_after_use() {
        let mut stream = Stream::default();
        assert_eq!(stream.write(&vec![1; WINDOW + 5]), WINDOW);
        assert_eq!(stream.write(b"x"), 0);
        let mut out = Vec::new();
        stream.send_into(&mut out, usize::MAX >> 1);
        assert_eq!((out.len(), stream.has_unsent()), (WINDOW, false));
        stream.used_there(10).unwrap();
        assert_eq!(stream.room(), 10);
    }

    #[test]
    fn only_what_can_be_true_is_believed() {
        let mut stream = Stream::default();
        stream.write(b"abcdef");
        let mut out = Vec::new();
        stream.send_into(&mut out, 4);
        assert_eq!(stream.used_there(5), Err(Broken::Diverged), "not yet sent");
        stream.used_there(2).unwrap();
        assert_eq!(stream.used_there(1), Err(Broken::Diverged), "less than before");
        assert_eq!(stream.resume(1), Err(Broken::Diverged), "no longer kept");
        assert_eq!(stream.resume(7), Err(Broken::Diverged), "never written");
        stream.resume(3).unwrap();
        out.clear();
        stream.send_into(&mut out, 10);
        assert_eq!(out, b"def");
        assert_eq!(stream.receive(&vec![0; WINDOW + 1]), Err(Broken::Overrun));
    }

    #[test]
    fn use_is_told_rarely_but_at_once_on_a_new_connection() {
        let mut stream = Stream::default();
        assert_eq!(stream.tell_used(), Some(0));
        stream.receive(&vec![0; WINDOW]).unwrap();
        stream.take(1000);
        assert_eq!(stream.tell_used(), None);
        stream.take(WINDOW / 4);
        assert_eq!(stream.tell_used(), Some(1000 + TELL_AFTER));
        stream.resume(0).unwrap();
        assert_eq!(stream.tell_used(), Some(1000 + TELL_AFTER));
    }
}
