//! The store as one process sees it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rand::RngExt as _;
use thresher_store::{
    Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
};
use tokio::time::sleep;

use super::faults::{Fate, PATIENCE};
use super::link::Link;
use super::store::{Answer, Request, SimStore};

/// One process's end of the line to the store.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    store: SimStore,
    /// `None` for whoever judges: no latency, no faults, no trace.
    link: Option<Link>,
}

/// A request on its way. Dropped there, because its process was killed or gave up, it may arrive all the same.
struct OnItsWay<'a> {
    handle: &'a StoreHandle,
    process: u32,
    request: Option<Request>,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let mut world = self.handle.store.world();
        if world.random.random_bool(0.5) {
            let after = Duration::from_millis(world.random.random_range(0..2_000));
            world.deliver_later(self.process, request, after);
        }
    }
}

impl StoreHandle {
    pub(crate) fn new(store: SimStore, link: Link) -> Self {
        Self { store, link: Some(link) }
    }

    pub(crate) fn truth(store: SimStore) -> Self {
        Self { store, link: None }
    }

    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let Some(link) = &self.link else {
            let mut world = self.store.world();
            return Ok(world.serve(0, &request));
        };
        link.thawed().await;
        let course = self.store.world().draw(&request);
        let mut sent = OnItsWay { handle: self, process: link.process, request: Some(request.clone()) };
        sleep(course.there).await;
        sent.request = None;
        let fate = if link.is_partitioned() && course.fate != Fate::Outage {
            Fate::RequestLost
        } else {
            course.fate
        };
        let answer = self.arrive(link, &request, fate);
        link.operation();
        let answer = if answer.is_ok() && link.is_partitioned() { Err(lost(&request)) } else { answer };
        sleep(self.wait_for(&answer, course.back)).await;
        link.thawed().await;
        answer
    }

    /// What the store makes of a request that has come as far as its fate lets it.
    fn arrive(&self, link: &Link, request: &Request, fate: Fate) -> Result<Answer, StoreError> {
        let mut world = self.store.world();
        let path = || request.path().to_owned();
        match fate {
            Fate::Served => return Ok(world.serve(link.process, request)),
            Fate::AnswerLost => {
                world.serve(link.process, request);
            }
            Fate::Late(after) => world.deliver_later(link.process, request.clone(), after),
            Fate::RequestLost => {}
            Fate::Contended => {
                world.note(link.process, request, "contended");
                return Err(StoreError::Contended { path: path() });
            }
            Fate::Throttled => {
                world.note(link.process, request, "throttled");
                return Err(StoreError::Throttled {
                    path: path(),
                    source: Arc::new(io::Error::other("SlowDown")),
                });
            }
            Fate::Outage => {
                world.note(link.process, request, "outage");
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                return Err(StoreError::Io { path: path(), source: Arc::new(refused) });
            }
        }
        world.note(link.process, request, "no answer");
        Err(lost(request))
    }

    /// How long it takes until the process knows.
    fn wait_for(&self, answer: &Result<Answer, StoreError>, back: Duration) -> Duration {
        match answer {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
                Duration::from_millis(self.store.world().random.random_range(PATIENCE))
            }
            _ => back,
        }
    }

    async fn page(&self, prefix: &str, after: Option<String>) -> Result<(Vec<ObjectMeta>, bool), StoreError> {
        let most = match self.link {
            Some(_) => {
                let mut world = self.store.world();
                let sizes = world.faults.page.clone();
                world.random.random_range(sizes)
            }
            None => usize::MAX,
        };
        match self.ask(Request::Page { prefix: prefix.to_owned(), after, most }).await? {
            Answer::Page(page, more) => Ok((page, more)),
            other => unreachable!("a listing is answered with {other:?}"),
        }
    }
}

fn lost(request: &Request) -> StoreError {
    let source = Arc::new(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
    StoreError::Io { path: request.path().to_owned(), source }
}

fn absent(path: &ObjectPath) -> StoreError {
    StoreError::NotFound { path: path.to_string() }
}

#[async_trait]
impl ObjectStore for StoreHandle {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        match self.ask(Request::Put { path: path.clone(), bytes, mode }).await? {
            Answer::Put(outcome) => Ok(outcome),
            other => unreachable!("a put is answered with {other:?}"),
        }
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        Ok(Box::new(Upload { handle: self.clone(), path: path.clone(), body: Some(BytesMut::new()) }))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        match self.ask(Request::Get { path: path.clone() }).await? {
            Answer::Object(object) => Ok(object),
            _ => Err(absent(path)),
        }
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.ask(Request::Range { path: path.clone(), range }).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(absent(path)),
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        match self.ask(Request::Head { path: path.clone() }).await? {
            Answer::Meta(meta) => Ok(meta),
            _ => Err(absent(path)),
        }
    }

    /// Page after page, each as the store is when that page is read.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut after = after.map(str::to_owned);
        let mut listed: Vec<ObjectMeta> = Vec::new();
        loop {
            let (page, more) = self.page(prefix, after).await?;
            listed.extend(page);
            if !more {
                return Ok(listed);
            }
            after = listed.last().map(|object| object.path.to_string());
        }
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.ask(Request::Delete { path: path.clone() }).await.map(drop)
    }
}

/// Parts so far; `None` once the upload is over. What decides is the completion, which is a put.
struct Upload {
    handle: StoreHandle,
    path: ObjectPath,
    body: Option<BytesMut>,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let body =
            self.body.as_mut().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })?;
        body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let body = self.body.take().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })?;
        let done = self.handle.put(&self.path, body.clone().freeze(), mode).await;
        // After a lost request the completion may be repeated; after a conflict of uploads it may not.
        if matches!(&done, Err(error) if !matches!(error, StoreError::Contended { .. })) {
            self.body = Some(body);
        }
        done
    }

    async fn abort(self: Box<Self>) {}
}
