//! The guest's output out of the daemon's multiplexed stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of the guest's standard error that are kept in the log: it has nothing to say there but a panic.
const STDERR_LOGGED: usize = 16 * 1024;

type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Reads what the guest writes to its standard output. What it writes to standard error goes to the log, bounded.
///
/// Demultiplexing happens in the reader's own poll: no task stands between, so dropping the reader closes the stream.
pub(super) struct GuestOutput {
    frames: Frames,
    rest: Bytes,
    container: String,
    stderr_logged: usize,
}

impl GuestOutput {
    pub(super) fn new(frames: Frames, container: String) -> Self {
        Self { frames, rest: Bytes::new(), container, stderr_logged: 0 }
    }

    fn log_stderr(&mut self, message: &[u8]) {
        let kept = &message[..message.len().min(STDERR_LOGGED - self.stderr_logged)];
        if !kept.is_empty() {
            self.stderr_logged += kept.len();
            tracing::debug!(container = %self.container, stderr = %String::from_utf8_lossy(kept), "guest");
        }
    }
}

impl AsyncRead for GuestOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match std::task::ready!(self.frames.as_mut().poll_next(context)) {
                Some(Ok(LogOutput::StdOut { message })) => self.rest = message,
                Some(Ok(LogOutput::StdErr { message })) => self.log_stderr(&message),
                Some(Ok(LogOutput::StdIn { .. })) => {}
                Some(Ok(LogOutput::Console { .. })) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "not a multiplexed stream",
                    )));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn output(frames: Vec<Result<LogOutput, Error>>) -> GuestOutput {
        GuestOutput::new(Box::pin(futures::stream::iter(frames)), "c".into())
    }

    fn stdout(text: &'static str) -> Result<LogOutput, Error> {
        Ok(LogOutput::StdOut { message: Bytes::from_static(text.as_bytes()) })
    }

    #[tokio::test]
    async fn only_standard_output_is_read() {
        let stderr = || Ok(LogOutput::StdErr { message: Bytes::from(vec![b'x'; STDERR_LOGGED]) });
        let mut reader = output(vec![stdout("ab"), stderr(), stderr(), stdout(""), stdout("cde")]);
        let mut first = [0; 1];
        reader.read_exact(&mut first).await.unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&first, rest.as_str()), (b"a", "bcde"));
        assert_eq!(reader.stderr_logged, STDERR_LOGGED);
    }

    #[tokio::test]
    async fn a_broken_stream_is_an_error_and_not_an_end() {
        let mut torn = output(vec![stdout("ab"), Err(Error::RequestTimeoutError)]);
        assert!(torn.read_to_end(&mut Vec::new()).await.is_err());
        let mut raw = output(vec![Ok(LogOutput::Console { message: Bytes::from_static(b"?") })]);
        assert_eq!(raw.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
