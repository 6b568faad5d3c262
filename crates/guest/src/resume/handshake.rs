//! The beginning of a connection: who is there, and where does each go on.
//!
//! ```text
//! guest  -> runner   magic, whether it knows the key yet, a nonce
//! runner -> guest    the key (or zeros, once the guest knows it), a nonce, how much it has, a code over all
//! guest  -> runner   how much it has, a code over all
//! ```

use super::key::{Key, KeyHash, same};
use super::session::Session;
use super::stream::{Broken, Stream};

/// Length of a nonce in bytes.
pub const NONCE: usize = 16;

const MAGIC: [u8; 8] = *b"thrsher1";
const KEY: usize = 32;
const CODE: usize = 32;
const COUNT: usize = 8;
const CHALLENGE: usize = MAGIC.len() + 1 + NONCE;
const PROOF: usize = KEY + NONCE + COUNT + CODE;
const WELCOME: usize = COUNT + CODE;

/// Why no session came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The other side is not who it should be. Another connection may be.
    #[error("the other side does not know the key")]
    Stranger,
    /// It is, but the stream cannot go on: no other connection will help.
    #[error("{0}")]
    Broken(Broken),
}

/// What both codes are over, besides the side's own words.
struct Nonces {
    guest: [u8; NONCE],
    runner: [u8; NONCE],
}

impl Nonces {
    fn code(&self, key: &Key, word: &[u8; 8], received: u64) -> [u8; CODE] {
        key.code(&[word, &self.guest, &self.runner, &received.to_le_bytes()])
    }

    fn session(&self, key: &Key, own: &[u8; 8], other: &[u8; 8], unread: &[u8]) -> Session {
        let made = |word: &[u8; 8]| Key::new(key.code(&[word, &self.guest, &self.runner]));
        Session::new(made(own), made(other), unread)
    }
}

const RUNNER_PROVES: &[u8; 8] = b"runner:p";
const GUEST_PROVES: &[u8; 8] = b"guest :p";
const RUNNER_SENDS: &[u8; 8] = b"runner:s";
const GUEST_SENDS: &[u8; 8] = b"guest :s";

/// The guest's part that lasts: what it knows of the key.
#[derive(Debug)]
pub struct Door {
    hash: KeyHash,
    key: Option<Key>,
}

/// Somebody at the guest's door: a connection that has not yet proved anything.
#[derive(Debug)]
pub struct Visitor {
    nonce: [u8; NONCE],
    said: Vec<u8>,
}

impl Door {
    /// A door that opens for the key with this hash.
    pub fn new(hash: KeyHash) -> Self {
        Self { hash, key: None }
    }

    /// Begins with a new connection; returns also what is to be sent on it.
    pub fn knocked(&self, nonce: [u8; NONCE]) -> (Visitor, Vec<u8>) {
        let challenge = [&MAGIC[..], &[u8::from(self.key.is_some())], &nonce].concat();
        (Visitor { nonce, said: Vec::new() }, challenge)
    }

    /// Takes what a visitor sent; a session comes of it once the proof is whole. Its first output is the guest's own
    /// proof.
    ///
    /// # Errors
    /// [`Refused`]: the connection is to be closed. Nothing has changed then.
    pub fn hear(
        &mut self,
        visitor: &mut Visitor,
        bytes: &[u8],
        stream: &mut Stream,
    ) -> Result<Option<Session>, Refused> {
        visitor.said.extend_from_slice(bytes);
        let Some((proof, unread)) = visitor.said.split_first_chunk::<PROOF>() else { return Ok(None) };
        let (told, rest) = split::<KEY>(proof);
        let (runner, rest) = split::<NONCE>(rest);
        let (received, code) = split::<COUNT>(rest);
        let key = self.key.clone().unwrap_or_else(|| Key::new(told));
        let (nonces, received) = (Nonces { guest: visitor.nonce, runner }, u64::from_le_bytes(received));
        let proven = key.hash() == self.hash && same(code, &nonces.code(&key, RUNNER_PROVES, received));
        if !proven {
            return Err(Refused::Stranger);
        }
        stream.resume(received).map_err(Refused::Broken)?;
        let mut session = nonces.session(&key, GUEST_SENDS, RUNNER_SENDS, unread);
        let own = stream.received();
        session.say(&own.to_le_bytes());
        session.say(&nonces.code(&key, GUEST_PROVES, own));
        self.key = Some(key);
        Ok(Some(session))
    }
}

/// The runner's side of a new connection.
#[derive(Debug)]
pub struct Knock {
    key: Key,
    tell_key: bool,
    nonce: [u8; NONCE],
    heard: Vec<u8>,
    guest: Option<[u8; NONCE]>,
}

impl Knock {
    /// Begins a connection. `first` says that none has ever come to a session: only then the key itself is told.
    pub fn new(key: Key, nonce: [u8; NONCE], first: bool) -> Self {
        Self { key, tell_key: first, nonce, heard: Vec::new(), guest: None }
    }

    /// Takes what came; appends to `reply` what is to be sent. Returns the session once the guest has proved itself.
    ///
    /// # Errors
    /// [`Refused`]: the connection is to be closed.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        stream: &mut Stream,
        reply: &mut Vec<u8>,
    ) -> Result<Option<Session>, Refused> {
        self.heard.extend_from_slice(bytes);
        let guest = match self.guest {
            Some(guest) => guest,
            None if self.heard.len() < CHALLENGE => return Ok(None),
            None => self.answer(stream, reply)?,
        };
        let Some((welcome, unread)) = self.heard.split_first_chunk::<WELCOME>() else { return Ok(None) };
        let (received, code) = split::<COUNT>(welcome);
        let (nonces, received) = (Nonces { guest, runner: self.nonce }, u64::from_le_bytes(received));
        if !same(code, &nonces.code(&self.key, GUEST_PROVES, received)) {
            return Err(Refused::Stranger);
        }
        stream.resume(received).map_err(Refused::Broken)?;
        Ok(Some(nonces.session(&self.key, RUNNER_SENDS, GUEST_SENDS, unread)))
    }

    /// Answers the guest's challenge; returns its nonce.
    fn answer(&mut self, stream: &Stream, reply: &mut Vec<u8>) -> Result<[u8; NONCE], Refused> {
        let challenge: Vec<u8> = self.heard.drain(..CHALLENGE).collect();
        let (magic, rest) = split::<{ MAGIC.len() }>(&challenge);
        let ([knows_key], guest) = split::<1>(rest);
        // A guest that has been spoken to knows the key: this is somebody who would like to know it as well.
        if magic != MAGIC || (knows_key == 0 && !self.tell_key) {
            return Err(Refused::Stranger);
        }
        let (guest, _) = split::<NONCE>(guest);
        self.guest = Some(guest);
        let nonces = Nonces { guest, runner: self.nonce };
        reply.extend_from_slice(if knows_key == 0 { self.key.bytes() } else { &[0; KEY] });
        reply.extend_from_slice(&self.nonce);
        reply.extend_from_slice(&stream.received().to_le_bytes());
        reply.extend_from_slice(&nonces.code(&self.key, RUNNER_PROVES, stream.received()));
        Ok(guest)
    }
}

/// The first bytes and the rest of a message whose length is known.
fn split<const LENGTH: usize>(bytes: &[u8]) -> ([u8; LENGTH], &[u8]) {
    let (first, rest) = bytes.split_first_chunk().expect("messages have a fixed length");
    (*first, rest)
}
