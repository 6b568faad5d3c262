//! Frames: a length (u32, little-endian) and that many bytes of one postcard-encoded message.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame in bytes, without its length prefix. Either side breaks off at a longer one.
pub const MAX_FRAME: usize = 1 << 20;

/// Largest piece of a body that goes into one frame, in bytes.
pub const CHUNK: usize = 256 << 10;

const PREFIX: usize = 4;

/// A frame that is not of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is over [`MAX_FRAME`], or a message to be sent would be.
    #[error("a frame of {0} bytes is over the limit")]
    TooLong(usize),
    /// The bytes are no message of the expected type.
    #[error("a frame does not hold a message: {0}")]
    Malformed(String),
}

/// Appends `message` as one frame to `out`; leaves `out` as it was on an error.
pub fn encode_frame<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let bytes = postcard::to_stdvec(message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLong(bytes.len()));
    }
    let length = u32::try_from(bytes.len()).expect("MAX_FRAME fits into 32 bits");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Collects received bytes and gives the messages in them.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns how many received bytes are not yet part of a returned message.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Takes the next whole message; `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is unusable from then on.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((prefix, rest)) = self.buffer[self.start..].split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let (message, unread) =
            postcard::take_from_bytes(payload).map_err(|error| FrameError::Malformed(error.to_string()))?;
        if !unread.is_empty() {
            return Err(FrameError::Malformed(format!("{} bytes after the message", unread.len())));
        }
        self.start += PREFIX + length;
        self.forget_read();
        Ok(Some(message))
    }

    /// Gives memory back: moves unread bytes to the front once the read part is larger than a frame.
    fn forget_read(&mut self) {
        if self.start > MAX_FRAME {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Answer, Request, Response};

    fn frames(messages: &[Response]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            encode_frame(message, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn messages_survive_any_splitting() {
        let messages = vec![
            Response::Body { id: 1, bytes: Bytes::from(vec![7; 1000]) },
            Response::Body { id: 1, bytes: Bytes::new() },
            Response::End { id: 1, outcome: Ok(Answer::Done) },
        ];
        let stream = frames(&messages);
        for step in [1, 2, 3, 5, 64, stream.len()] {
            let mut decoder = FrameDecoder::default();
            let mut got = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(message) = decoder.take::<Response>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, messages, "in pieces of {step}");
            assert_eq!(decoder.buffered(), 0);
        }
    }

    #[test]
    fn garbage_is_an_error_or_a_wait_and_never_a_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000 {
            let length = usize::try_from(random() % 64).unwrap();
            let body: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
            let mut decoder = FrameDecoder::default();
            if round % 2 == 0 {
                decoder.push(&u32::try_from(length).unwrap().to_le_bytes());
            }
            decoder.push(&body);
            while let Ok(Some(_)) = decoder.take::<Response>() {}
            let mut decoder = FrameDecoder::default();
            decoder.push(&u32::try_from(length).unwrap().to_le_bytes());
            decoder.push(&body);
            while let Ok(Some(_)) = decoder.take::<Request>() {}
        }
    }

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.take::<Response>(), Err(FrameError::TooLong(u32::MAX as usize)));
        let mut out = vec![1];
        let long = Response::Body { id: 0, bytes: Bytes::from(vec![0; MAX_FRAME]) };
        assert!(matches!(encode_frame(&long, &mut out), Err(FrameError::TooLong(_))));
        assert_eq!(out, [1]);
        // A byte string that claims to be longer than its frame.
        let mut decoder = FrameDecoder::default();
        decoder.push(&[6, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(decoder.take::<Response>(), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn memory_follows_what_arrived() {
        let mut decoder = FrameDecoder::default();
        let body = Response::Body { id: 1, bytes: Bytes::from(vec![7; CHUNK]) };
        let stream = frames(std::slice::from_ref(&body));
        for _ in 0..64 {
            decoder.push(&stream[..100]);
            assert_eq!(decoder.take::<Response>(), Ok(None));
            decoder.push(&stream[100..]);
            assert_eq!(decoder.take::<Response>(), Ok(Some(body.clone())));
        }
        assert!(decoder.buffer.capacity() <= 4 * MAX_FRAME);
    }
}
