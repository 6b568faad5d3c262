//! The protocol between the runner and the helper that is the first process of every sandbox.
//!
//! The secret of this crate is what goes over the one stream that joins the two: length-prefixed frames
//! ([`FrameDecoder`], [`encode_frame`]) that hold one [`Request`] or [`Response`] each. The helper itself is the
//! binary `thresher-guest` of this crate (feature `bin`); the runner links the library alone.
//!
//! Invariants:
//! - A frame is at most [`MAX_FRAME`] bytes; whatever is larger travels as body frames of at most [`CHUNK`] bytes.
//! - One request is under way at a time. The host sends [`Request::Start`] and the announced body; the guest answers
//!   with any number of [`Response::Body`] and exactly one [`Response::End`] of the same id.
//! - A decoder allocates for bytes that have arrived, never for a length that was only announced.

mod frame;
mod item;
pub mod launch;
mod request;
mod response;
pub mod resume;

pub use frame::{CHUNK, FrameDecoder, FrameError, MAX_FRAME, encode_frame};
pub use item::{put_item, take_item};
pub use request::{CommandBody, Operation, PROTOCOL_VERSION, Request, WriteMode};
pub use response::{
    Answer, Entry, EntryKind, Failure, FailureKind, GuestInfo, Hit, Response, RunEnd, RunReport,
    SnapshotItem, StreamReport,
};
