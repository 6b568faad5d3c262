//! One stream that outlives its connections.
//!
//! Where runner and guest are joined by something that breaks now and then (a websocket through an API server), each
//! keeps what it wrote until the other has used it, and a new connection goes on exactly where the last one was cut:
//! no byte is lost and none comes twice. Everything here is a pure state machine: bytes in, bytes out.
//!
//! - [`Stream`] is one end of the stream: what was written and not yet used, what has come and was not yet taken.
//! - [`Knock`] (the runner's side) and [`Door`] with [`Visitor`] (the guest's) begin a connection: each proves that it
//!   knows the [`Key`], and says how much it has.
//! - [`Session`] is a connection that was begun: frames with a number and a code that only the two can make.
//!
//! Whoever is inside the sandbox may connect too, and may even reach the bytes of a connection in the moment in which
//! its relay starts. So the key itself travels only on the first connection, before which nothing runs inside that
//! could read it; the guest is started with its hash alone. Later connections prove the key without telling it. A
//! forged or missing byte ends the connection, and the next one goes on.

mod handshake;
mod key;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use handshake::{Door, Knock, NONCE, Refused, Visitor};
pub use key::{Key, KeyHash};
pub use session::Session;
pub use stream::{Broken, Stream, WINDOW};

/// Exit code of a guest that ended because no runner was connected for too long.
pub const ORPHANED: u8 = 75;

/// The name of the abstract socket that the guest listens on and its relay connects to. Part of the key's hash is in
/// it, so that pods which share a network do not meet.
pub fn socket_name(hash: &KeyHash) -> String {
    const LETTERS: usize = 16;
    format!("thresher-guest-{}", &hash.to_string()[..LETTERS])
}
