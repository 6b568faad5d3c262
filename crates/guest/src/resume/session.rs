//! A connection between the two: frames with a number and a code.
//!
//! A frame is a kind (one byte), a length (three bytes, little-endian), the content and a code over all of it and the
//! frame's number on this connection. So frames can neither be forged, nor dropped, nor repeated.

use super::key::{Key, same};
use super::stream::{Broken, Stream};

/// Most content of one frame in bytes. A connection must live for one frame to be of use.
const MOST: usize = 8 << 10;
/// Most that waits in a session to be sent, about, in bytes.
const ENOUGH: usize = 64 << 10;
const HEAD: usize = 4;
const CODE: usize = 16;

const DATA: u8 = 0;
const USED: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const CLOSE: u8 = 4;

/// A connection whose two sides have proved themselves.
#[derive(Debug)]
pub struct Session {
    own: Key,
    sent: u64,
    other: Key,
    heard: u64,
    input: Vec<u8>,
    output: Vec<u8>,
    pongs: bool,
    closed: bool,
}

impl Session {
    pub(super) fn new(own: Key, other: Key, unread: &[u8]) -> Self {
        let (input, output) = (unread.to_vec(), Vec::new());
        Self { own, sent: 0, other, heard: 0, input, output, pongs: false, closed: false }
    }

    /// Takes what came on the connection; empty to look only at what came with the handshake.
    ///
    /// # Errors
    /// [`Broken`]: the connection is to be closed. What came before is in the stream.
    pub fn push(&mut self, bytes: &[u8], stream: &mut Stream) -> Result<(), Broken> {
        self.input.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(frame) = next_frame(&self.input[start..])? {
            let code = frame_code(&self.other, self.heard, frame.checked);
            if !same(frame.code, &code) {
                return Err(Broken::Forged);
            }
            self.heard += 1;
            match (frame.kind, frame.content) {
                (DATA, content) => stream.receive(content)?,
                (USED, content) => {
                    let count = content.try_into().map_err(|_| Broken::Forged)?;
                    stream.used_there(u64::from_le_bytes(count))?;
                }
                (PING, []) => self.pongs = true,
                (PONG, []) => {}
                (CLOSE, []) => self.closed = true,
                _ => return Err(Broken::Forged),
            }
            start += frame.checked.len() + CODE;
        }
        self.input.drain(..start);
        Ok(())
    }

    /// How many frames came: a later look shows by it whether the other side lives.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether the other side said that the stream is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Asks the other side to show that it lives.
    pub fn ping(&mut self) {
        self.frame(PING, &[]);
    }

    /// Says that the stream is over.
    pub fn close(&mut self) {
        self.frame(CLOSE, &[]);
    }

    /// Whether there is anything to send now.
    pub fn has_output(&self, stream: &Stream) -> bool {
        !self.output.is_empty() || self.pongs || stream.has_to_tell() || stream.has_unsent()
    }

    /// Returns the next bytes to be sent; empty if there are none.
    pub fn output(&mut self, stream: &mut Stream) -> &[u8] {
        if std::mem::take(&mut self.pongs) {
            self.frame(PONG, &[]);
        }
        if let Some(used) = stream.tell_used() {
            self.frame(USED, &used.to_le_bytes());
        }
        while self.output.len() < ENOUGH && stream.has_unsent() {
            let mut content = Vec::new();
            stream.send_into(&mut content, MOST);
            self.frame(DATA, &content);
        }
        &self.output
    }

    /// Notes that the first `count` bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count);
    }

    /// Sends bytes as they are: the end of the handshake.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    fn frame(&mut self, kind: u8, content: &[u8]) {
        let start = self.output.len();
        let length = u32::try_from(content.len()).expect("contents are small").to_le_bytes();
        self.output.extend_from_slice(&[kind, length[0], length[1], length[2]]);
        self.output.extend_from_slice(content);
        let code = frame_code(&self.own, self.sent, &self.output[start..]);
        self.output.extend_from_slice(&code);
        self.sent += 1;
    }
}

fn frame_code(key: &Key, number: u64, checked: &[u8]) -> [u8; CODE] {
    let code = key.code(&[&number.to_le_bytes(), checked]);
    *code.first_chunk().expect("a code is longer")
}

/// A frame as it lies in the input.
struct Frame<'a> {
    kind: u8,
    content: &'a [u8],
    /// Head and content.
    checked: &'a [u8],
    code: &'a [u8],
}

fn next_frame(input: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    let Some(([kind, length @ ..], _)) = input.split_first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
    if length > MOST {
        return Err(Broken::Forged);
    }
    let Some(frame) = input.get(..HEAD + length + CODE) else { return Ok(None) };
    let (checked, code) = frame.split_at(HEAD + length);
    Ok(Some(Frame { kind: *kind, content: &checked[HEAD..], checked, code }))
}
