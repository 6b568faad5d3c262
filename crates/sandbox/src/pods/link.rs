//! The runner's end of the stream that outlives its connections: a task that dials again whenever one is cut.
//!
//! What [`open`] returns reads and writes like any stream. Behind it a [`Carrier`] moves bytes between it, the
//! [`Stream`] that keeps them and the present connection. It ends when the user lets go, when the sandbox is known
//! to be over, or when no connection came for so long that the guest has given up.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rand::TryRng;
use thresher_guest::resume::{Key, Knock, NONCE, Refused, Session, Stream};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::SandboxError;
use crate::guest::absence::Absence;

/// Bytes between the user and the carrier.
const PIPE: usize = 64 << 10;
/// Bytes read at once.
const READ: usize = 64 << 10;

/// A connection to the guest's relay.
pub(super) struct Connection {
    pub(super) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) output: Box<dyn AsyncWrite + Send + Unpin>,
    /// What must live as long as the connection.
    pub(super) keep: Box<dyn Send>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// There will be none any more.
    Over(SandboxError),
    /// There may be one later. Where that does not come true, this is what is said of it.
    Later(SandboxError),
}

/// Makes connections to one sandbox's guest.
#[async_trait]
pub(super) trait Dial: Send + Sync + 'static {
    /// Makes one, or says why not. Bounded in time by the caller.
    async fn dial(&self) -> Result<Connection, NoConnection>;
}

/// How long what may take.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Dialling and the handshake.
    pub(super) dial: Duration,
    /// Without any connection. Shorter than the guest's own patience.
    pub(super) away: Duration,
    /// Between two signs of life that are asked for.
    pub(super) ping: Duration,
    /// Without a sign of life, until the connection counts as cut.
    pub(super) silence: Duration,
    /// First and longest pause before dialling again.
    pub(super) pause: (Duration, Duration),
}

/// The user's end for reading.
pub(super) struct LinkReader {
    inner: ReadHalf<DuplexStream>,
    fate: Arc<Fate>,
    _hold: Arc<DropGuard>,
}

/// The user's end for writing.
pub(super) struct LinkWriter {
    inner: WriteHalf<DuplexStream>,
    fate: Arc<Fate>,
    _hold: Arc<DropGuard>,
}

/// Why the carrier ended, for the first user who meets the end.
#[derive(Default)]
struct Fate(Mutex<Option<SandboxError>>);

impl Fate {
    fn take(&self) -> Option<io::Error> {
        let mut fate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fate.take().map(io::Error::other)
    }
}

/// The user's end: both directions, and the time that the guest could not be reached.
pub(super) struct Link {
    pub(super) reader: LinkReader,
    pub(super) writer: LinkWriter,
    pub(super) absence: Arc<Absence>,
}

/// Opens the stream; connections are made by `dial`, in a task of `tasks`.
pub(super) fn open(dial: impl Dial, key: Key, patience: Patience, tasks: &TaskTracker) -> Link {
    let (user, carrier) = tokio::io::duplex(PIPE);
    let (inner_reader, inner_writer) = tokio::io::split(user);
    let (from_user, to_user) = tokio::io::split(carrier);
    let let_go = CancellationToken::new();
    let hold = Arc::new(let_go.clone().drop_guard());
    let (fate, absence) = (Arc::new(Fate::default()), Arc::new(Absence::default()));
    let carrier = Carrier {
        dial,
        key,
        patience,
        stream: Stream::default(),
        first: true,
        from_user,
        to_user,
        let_go,
        absence: absence.clone(),
    };
    let ended = fate.clone();
    tasks.spawn(async move { carrier.carry_all(&ended).await });
    let reader = LinkReader { inner: inner_reader, fate: fate.clone(), _hold: hold.clone() };
    let writer = LinkWriter { inner: inner_writer, fate, _hold: hold };
    Link { reader, writer, absence }
}

impl AsyncRead for LinkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
        let error = if at_end { self.fate.take() } else { None };
        Poll::Ready(error.map_or(Ok(()), Err))
    }
}

impl AsyncWrite for LinkWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(context, bytes));
        Poll::Ready(written.map_err(|error| self.fate.take().unwrap_or(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Moves the bytes.
struct Carrier<D> {
    dial: D,
    key: Key,
    patience: Patience,
    stream: Stream,
    /// Whether no connection has ever come to a session.
    first: bool,
    from_user: ReadHalf<DuplexStream>,
    to_user: WriteHalf<DuplexStream>,
    let_go: CancellationToken,
    absence: Arc<Absence>,
}

/// Why carrying ended.
enum End {
    /// The user let go.
    LetGo,
    /// The connection was cut, some time after the guest was last heard.
    Cut(Instant),
    /// There will be no other.
    Over(SandboxError),
}

impl<D: Dial> Carrier<D> {
    async fn carry_all(mut self, fate: &Fate) {
        let mut pause = self.patience.pause.0;
        loop {
            let joined = match self.connect(&mut pause).await {
                Ok(joined) => joined,
                Err(end) => return tell(end, fate),
            };
            self.absence.end();
            let since = Instant::now();
            match self.carry(joined).await {
                End::Cut(heard) if since.elapsed() >= self.patience.silence => {
                    self.absence.begin(heard);
                    pause = self.patience.pause.0;
                }
                // Cut again and again: somebody inside may be doing that.
                End::Cut(heard) => {
                    self.absence.begin(heard);
                    pause = (pause * 2).min(self.patience.pause.1);
                }
                end => return tell(end, fate),
            }
        }
    }

    /// Dials until there is a session.
    async fn connect(&mut self, pause: &mut Duration) -> Result<(Connection, Session), End> {
        let begun = Instant::now();
        loop {
            let let_go = self.let_go.clone();
            let patience = self.patience.dial;
            let tried = tokio::select! {
                () = let_go.cancelled() => return Err(End::LetGo),
                tried = timeout(patience, self.join()) => tried,
            };
            let error = match tried {
                Ok(Ok(joined)) => return Ok(joined),
                Ok(Err(NoConnection::Over(error))) => return Err(End::Over(error)),
                Ok(Err(NoConnection::Later(error))) => error,
                Err(_) => SandboxError::Gone(format!("no connection within {patience:?}")),
            };
            tracing::debug!(%error, "no connection to the guest");
            if begun.elapsed() >= self.patience.away {
                return Err(End::Over(error));
            }
            tokio::select! {
                () = let_go.cancelled() => return Err(End::LetGo),
                () = sleep(*pause) => {}
            }
            *pause = (*pause * 2).min(self.patience.pause.1);
        }
    }

    /// Makes one connection and begins a session on it.
    async fn join(&mut self) -> Result<(Connection, Session), NoConnection> {
        let mut connection = self.dial.dial().await?;
        let mut knock = Knock::new(self.key.clone(), nonce()?, self.first);
        let mut buffer = vec![0; READ];
        loop {
            let count = connection.input.read(&mut buffer).await.map_err(cut_early)?;
            if count == 0 {
                return Err(cut_early(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut reply = Vec::new();
            let heard = knock.hear(&buffer[..count], &mut self.stream, &mut reply);
            connection.output.write_all(&reply).await.map_err(cut_early)?;
            match heard {
                Ok(None) => {}
                Ok(Some(session)) => {
                    self.first = false;
                    return Ok((connection, session));
                }
                Err(Refused::Stranger) => {
                    let message = "something else answers in the guest's place".into();
                    return Err(NoConnection::Later(SandboxError::Gone(message)));
                }
                Err(error @ Refused::Broken(_)) => {
                    return Err(NoConnection::Over(SandboxError::Protocol(error.to_string())));
                }
            }
        }
    }

    /// Carries bytes over one connection until its end.
    async fn carry(&mut self, (connection, mut session): (Connection, Session)) -> End {
        let Connection { mut input, mut output, keep: _keep } = connection;
        let (mut heard, mut told) = (vec![0; READ], vec![0; READ]);
        let mut pings = tokio::time::interval(self.patience.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut life = (session.heard(), Instant::now());
        if session.push(&[], &mut self.stream).is_err() {
            return End::Cut(life.1);
        }
        loop {
            let room = self.stream.room().min(READ);
            let has_output = session.has_output(&self.stream);
            let unsent = session.output(&mut self.stream);
            let readable = self.stream.readable();
            let done = tokio::select! {
                () = self.let_go.cancelled() => Done::LetGo,
                count = self.from_user.read(&mut told[..room]), if room > 0 => Done::Told(count),
                count = self.to_user.write(readable), if !readable.is_empty() => Done::Gave(count),
                count = input.read(&mut heard) => Done::Heard(count),
                count = output.write(unsent), if has_output => Done::Sent(count),
                _ = pings.tick() => Done::Tick,
            };
            match done {
                Done::LetGo | Done::Told(Ok(0) | Err(_)) | Done::Gave(Err(_)) => {
                    self.say_goodbye(&mut session, &mut input, &mut output).await;
                    return End::LetGo;
                }
                Done::Told(Ok(count)) => {
                    self.stream.write(&told[..count]);
                }
                Done::Gave(Ok(count)) => self.stream.take(count),
                Done::Heard(Ok(count)) if count > 0 => {
                    if session.push(&heard[..count], &mut self.stream).is_err() {
                        return End::Cut(life.1);
                    }
                }
                Done::Sent(Ok(count)) if count > 0 => session.sent(count),
                Done::Heard(_) | Done::Sent(_) => return End::Cut(life.1),
                Done::Tick => session.ping(),
            }
            if session.heard() > life.0 {
                life = (session.heard(), Instant::now());
            } else if life.1.elapsed() >= self.patience.silence {
                return End::Cut(life.1);
            }
        }
    }

    /// Tells the guest to end: a courtesy, as the pod is deleted as well.
    async fn say_goodbye(
        &mut self,
        session: &mut Session,
        input: &mut (impl AsyncRead + Unpin),
        output: &mut (impl AsyncWrite + Unpin),
    ) {
        const COURTESY: Duration = Duration::from_secs(1);
        session.close();
        let last = session.output(&mut self.stream).to_vec();
        let said = timeout(COURTESY, async {
            output.write_all(&last).await?;
            // The guest's end closes the connection: before it, the words may not be out.
            tokio::io::copy(input, &mut tokio::io::sink()).await
        });
        if !matches!(said.await, Ok(Ok(_))) {
            tracing::debug!("the guest did not say that it ends");
        }
    }
}

/// What a turn of the carrier waited for.
enum Done {
    LetGo,
    Told(io::Result<usize>),
    Gave(io::Result<usize>),
    Heard(io::Result<usize>),
    Sent(io::Result<usize>),
    Tick,
}

fn tell(end: End, fate: &Fate) {
    if let End::Over(error) = end {
        tracing::debug!(%error, "the stream to a sandbox is over");
        *fate.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

fn cut_early(error: io::Error) -> NoConnection {
    NoConnection::Later(SandboxError::Gone(format!("its relay ended at once: {error}")))
}

fn nonce() -> Result<[u8; NONCE], NoConnection> {
    let mut nonce = [0; NONCE];
    rand::rngs::SysRng.try_fill_bytes(&mut nonce).map_err(|error| {
        let (action, source) = ("get a random number".into(), io::Error::other(error));
        NoConnection::Over(SandboxError::Os { action, source })
    })?;
    Ok(nonce)
}

#[cfg(test)]
mod tests;
