//! One request at a time over the guest's stream. Everything that comes from the guest is checked here.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thresher_guest::{
    Answer, CHUNK, Failure, FailureKind, FrameDecoder, FrameError, Operation, Request, Response, encode_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::error::{FileErrorKind, SandboxError};
use crate::guest::absence::Absence;

/// Time that the guest gets beyond a command's own deadline, twice: before it is asked to end the command, and after.
const GRACE: Duration = Duration::from_secs(15);

const READ_BUFFER: usize = 64 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A request with its bounds.
pub(super) struct Call<'a> {
    operation: Operation,
    body: &'a [u8],
    answer_limit: u64,
    time: Duration,
}

impl<'a> Call<'a> {
    /// A request without bodies, to be answered within `time`.
    pub(super) fn new(operation: Operation, time: Duration) -> Self {
        Self { operation, body: &[], answer_limit: 0, time }
    }

    /// With a body.
    pub(super) fn body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// With an answer's body of at most so many bytes.
    pub(super) fn answer_limit(self, answer_limit: u64) -> Self {
        Self { answer_limit, ..self }
    }
}

/// The host's end of the stream.
pub(super) struct Connection {
    // The mutexes are never locked: they make the halves shareable, which trait objects of streams are not.
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
    last_id: u32,
    /// Why the stream cannot be used any more. Set while a request is under way: one whose future is dropped leaves it.
    broken: Option<String>,
    absence: Arc<Absence>,
}

impl Connection {
    /// Takes a guest's standard output and input.
    pub(super) fn new(reader: Reader, writer: Writer, absence: Arc<Absence>) -> Self {
        Self {
            reader: Mutex::new(reader),
            writer: Mutex::new(writer),
            decoder: FrameDecoder::default(),
            buffer: vec![0; READ_BUFFER],
            last_id: 0,
            broken: None,
            absence,
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`SandboxError::File`] for a failure that the guest reports, after which the stream is as good as before.
    /// [`SandboxError::Gone`] and [`SandboxError::Protocol`] end its use.
    pub(super) async fn call(&mut self, call: Call<'_>) -> Result<(Bytes, Answer), SandboxError> {
        let deadline = after(call.time);
        self.exchange(call, Patience { cancel_at: None, deadline }).await
    }

    /// As [`Connection::call`] for a command whose deadline the guest keeps: some time after it the guest is asked
    /// to end the command, and some time after that it has broken the protocol.
    pub(super) async fn call_cancelling(&mut self, call: Call<'_>) -> Result<(Bytes, Answer), SandboxError> {
        let cancel_at = after(call.time.saturating_add(GRACE));
        self.exchange(call, Patience { cancel_at: Some(cancel_at), deadline: cancel_at + GRACE }).await
    }

    async fn exchange(
        &mut self,
        call: Call<'_>,
        patience: Patience,
    ) -> Result<(Bytes, Answer), SandboxError> {
        if let Some(reason) = &self.broken {
            return Err(SandboxError::Gone(reason.clone()));
        }
        self.last_id = self.last_id.wrapping_add(1);
        let head = start_frame(self.last_id, call.operation, call.body.len())?;
        self.broken = Some("an earlier request was broken off".into());
        let outcome = self.converse(head, call.body, call.answer_limit, patience).await;
        self.broken = outcome.as_ref().err().map(ToString::to_string);
        let (body, outcome) = outcome?;
        Ok((body, outcome.map_err(file_error)?))
    }

    /// Sends the request and collects the answer. Every error leaves the stream unusable.
    async fn converse(
        &mut self,
        head: Vec<u8>,
        body: &[u8],
        answer_limit: u64,
        patience: Patience,
    ) -> Result<(Bytes, Result<Answer, Failure>), SandboxError> {
        let absence = self.absence.clone();
        let absence = absence.begin_counting();
        absence.until(patience.deadline, self.send(head, body)).await.ok_or_else(too_slow)??;
        let Patience { mut cancel_at, deadline } = patience;
        let mut answer = BytesMut::new();
        loop {
            match self.decoder.take().map_err(broken_frame)? {
                Some(Response::Body { id, bytes }) if id == self.last_id && !bytes.is_empty() => {
                    if (answer.len() + bytes.len()) as u64 > answer_limit {
                        return Err(SandboxError::Protocol(format!(
                            "an answer of over {answer_limit} bytes"
                        )));
                    }
                    answer.extend_from_slice(&bytes);
                }
                Some(Response::End { id, outcome }) if id == self.last_id => {
                    return Ok((answer.freeze(), outcome));
                }
                Some(_) => return Err(SandboxError::Protocol("a frame that nobody asked for".into())),
                None => match absence.until(cancel_at.unwrap_or(deadline), self.fill()).await {
                    Some(filled) => filled?,
                    None if cancel_at.take().is_some() => {
                        let cancelled = absence.until(deadline, self.cancel()).await;
                        cancelled.ok_or_else(too_slow)??;
                    }
                    None => return Err(too_slow()),
                },
            }
        }
    }

    /// Sends a request's first frame and its body.
    async fn send(&mut self, head: Vec<u8>, body: &[u8]) -> Result<(), SandboxError> {
        let writer = half(&mut self.writer);
        // A small body goes out with the head: one write, one wake-up of the guest.
        let mut frames = head;
        for piece in body.chunks(CHUNK) {
            encode_frame(&Request::Body(Bytes::copy_from_slice(piece)), &mut frames).map_err(broken_frame)?;
            if frames.len() >= CHUNK {
                writer.write_all(&frames).await.map_err(gone)?;
                frames.clear();
            }
        }
        writer.write_all(&frames).await.map_err(gone)?;
        writer.flush().await.map_err(gone)
    }

    async fn cancel(&mut self) -> Result<(), SandboxError> {
        let mut frame = Vec::new();
        encode_frame(&Request::Cancel { id: self.last_id }, &mut frame).map_err(broken_frame)?;
        self.send(frame, &[]).await
    }

    /// Waits for more bytes from the guest.
    async fn fill(&mut self) -> Result<(), SandboxError> {
        match half(&mut self.reader).read(&mut self.buffer).await.map_err(gone)? {
            0 => Err(SandboxError::Gone("its guest closed the stream".into())),
            count => {
                self.decoder.push(&self.buffer[..count]);
                Ok(())
            }
        }
    }
}

/// Until when an answer is waited for.
struct Patience {
    /// When the guest is asked to break the command off.
    cancel_at: Option<Instant>,
    /// When the guest has broken the protocol.
    deadline: Instant,
}

/// A time from now; longer than a year is as good as never.
fn after(time: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + time.min(LONGEST)
}

fn half<T>(half: &mut Mutex<T>) -> &mut T {
    half.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// The first frame of a request. Too long can only be a path: an ordinary error of the caller's file operation.
fn start_frame(id: u32, operation: Operation, body: usize) -> Result<Vec<u8>, SandboxError> {
    let mut frame = Vec::new();
    let request = Request::Start { id, operation, body: body as u64 };
    match encode_frame(&request, &mut frame) {
        Ok(()) => Ok(frame),
        Err(error) => Err(SandboxError::File {
            path: String::new(),
            kind: FileErrorKind::TooLarge,
            message: error.to_string(),
        }),
    }
}

/// What a stream's end means. A stream that knows more, because its backend looked, carries the backend's own error.
fn gone(error: io::Error) -> SandboxError {
    error.downcast::<SandboxError>().unwrap_or_else(|error| SandboxError::Gone(error.to_string()))
}

fn too_slow() -> SandboxError {
    SandboxError::Protocol("no answer within the time that it had".into())
}

pub(super) fn broken_frame(error: FrameError) -> SandboxError {
    SandboxError::Protocol(error.to_string())
}

fn file_error(failure: Failure) -> SandboxError {
    let kind = match failure.kind {
        FailureKind::NotFound => FileErrorKind::NotFound,
        FailureKind::Exists => FileErrorKind::Exists,
        FailureKind::IsDirectory => FileErrorKind::IsDirectory,
        FailureKind::NotADirectory => FileErrorKind::NotADirectory,
        FailureKind::Denied => FileErrorKind::Denied,
        FailureKind::NoSpace => FileErrorKind::NoSpace,
        FailureKind::TooLarge => FileErrorKind::TooLarge,
        FailureKind::Other => FileErrorKind::Other,
    };
    SandboxError::File { path: failure.path, kind, message: failure.message }
}
