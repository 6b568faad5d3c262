//! The simulated store: one map that every process sees through a line of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use thresher_store::{ChangeTag, Etag, Object, ObjectMeta, ObjectPath, PutMode, PutOutcome};
use tokio::time::Instant;

use super::faults::{Course, StoreFaults};
use super::handle::StoreHandle;
use super::link::Link;
use super::trace::Trace;
use super::watch::Watch;

/// A linearizable store in memory. Clones share it.
///
/// What it holds at any instant is the truth that a case is judged by ([`Self::truth`]). Processes reach it through
/// [`Self::handle`], with the latency and the faults of the case.
#[derive(Clone, Debug)]
pub struct SimStore {
    world: Arc<Mutex<World>>,
}

/// Everything outside of the processes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) objects: BTreeMap<ObjectPath, Stored>,
    /// Requests that arrive after their senders gave up on them, by when.
    late: BTreeMap<(Instant, u64), (u32, Request)>,
    pub(crate) random: StdRng,
    pub(crate) faults: StoreFaults,
    pub(crate) trace: Trace,
    pub(crate) watch: Watch,
    began: Instant,
}

/// An object of the truth.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    etag: Etag,
}

/// What a process asks of the store.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Put { path: ObjectPath, bytes: Bytes, mode: PutMode },
    Get { path: ObjectPath },
    Range { path: ObjectPath, range: Range<u64> },
    Head { path: ObjectPath },
    Page { prefix: String, after: Option<String>, most: usize },
    Delete { path: ObjectPath },
}

/// What the store answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Put(PutOutcome),
    Object(Object),
    Bytes(Bytes),
    Meta(ObjectMeta),
    /// A page of a listing, and whether more follows.
    Page(Vec<ObjectMeta>, bool),
    Deleted,
    NotFound,
}

impl Request {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Put { mode: PutMode::Create, .. } => "create",
            Self::Put { mode: PutMode::Overwrite, .. } => "overwrite",
            Self::Put { mode: PutMode::Update(_), .. } => "update",
            Self::Get { .. } => "get",
            Self::Range { .. } => "range",
            Self::Head { .. } => "head",
            Self::Page { .. } => "list",
            Self::Delete { .. } => "delete",
        }
    }

    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Put { path, .. }
            | Self::Get { path }
            | Self::Range { path, .. }
            | Self::Head { path }
            | Self::Delete { path } => path.as_str(),
            Self::Page { prefix, .. } => prefix,
        }
    }

    pub(crate) fn is_conditional(&self) -> bool {
        matches!(self, Self::Put { mode: PutMode::Create | PutMode::Update(_), .. })
    }

    fn changes_something(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }
}

impl Answer {
    fn name(&self) -> &'static str {
        match self {
            Self::Put(PutOutcome::Stored(_)) => "stored",
            Self::Put(PutOutcome::Conflict) => "conflict",
            Self::NotFound => "absent",
            _ => "ok",
        }
    }
}

impl SimStore {
    /// An empty store whose latencies and faults come from `seed`, and whose condemned files must stay for `keep`. Call it
    /// within the runtime of the case.
    pub fn new(seed: u64, faults: StoreFaults, keep: Duration, trace: Trace) -> Self {
        let world = World {
            objects: BTreeMap::new(),
            late: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            faults,
            trace,
            watch: Watch::new(keep),
            began: Instant::now(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The store as the process at the end of `link` sees it.
    pub fn handle(&self, link: Link) -> StoreHandle {
        StoreHandle::new(self.clone(), link)
    }

    /// The store as it is, at once and without faults: for whoever judges.
    pub fn truth(&self) -> StoreHandle {
        StoreHandle::truth(self.clone())
    }

    /// Notes something that is no operation in the trace.
    pub fn note(&self, process: u32, what: &str, about: &str) {
        let mut world = self.world();
        let at = world.elapsed();
        world.trace.note(at, process, what, about, "");
    }

    /// Notes that an invariant was broken.
    pub fn broken(&self, what: impl Into<String>) {
        let mut world = self.world();
        let at = world.elapsed();
        world.watch.broken(at, what);
    }

    /// The first broken invariants, in order; at most a few are kept.
    pub fn violations(&self) -> Vec<String> {
        self.world().watch.violations().to_vec()
    }

    /// The processes whose heartbeats ever listed an attempt of a rollout.
    pub(crate) fn begun_on(&self, rollout: &str) -> BTreeSet<u32> {
        self.world().watch.begun_on(rollout)
    }

    /// Since when a rollout has a finished trajectory.
    pub(crate) fn ungraded_since(&self, rollout: &str) -> Option<Duration> {
        self.world().watch.ungraded_since(rollout)
    }

    /// The files of the packs that the log makes part of the run, sorted.
    pub(crate) fn live_files(&self) -> Vec<String> {
        self.world().watch.live_files()
    }

    /// What happened so far. The store's own trace is empty afterwards.
    pub fn take_trace(&self) -> Trace {
        std::mem::take(&mut self.world().trace)
    }

    /// Virtual time since the store was made.
    pub fn elapsed(&self) -> Duration {
        self.world().elapsed()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.deliver_late();
        world
    }
}

impl World {
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How a request of a process will fare.
    pub(crate) fn draw(&mut self, request: &Request) -> Course {
        let at = self.elapsed();
        self.faults.draw(&mut self.random, at, request)
    }

    /// Lets a request arrive some time from now, though nobody waits for its answer any more.
    pub(crate) fn deliver_later(&mut self, process: u32, request: Request, after: Duration) {
        if request.changes_something() {
            let key = (Instant::now() + after, self.trace.events());
            self.late.insert(key, (process, request));
        }
    }

    fn deliver_late(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (process, request) = entry.remove();
            self.serve(process, &request);
        }
    }

    /// Notes a request that never arrived, or was refused.
    pub(crate) fn note(&mut self, process: u32, request: &Request, outcome: &str) {
        let at = self.elapsed();
        self.trace.note(at, process, request.name(), request.path(), outcome);
    }

    /// The one place where requests take effect, one after the other.
    pub(crate) fn serve(&mut self, process: u32, request: &Request) -> Answer {
        let answer = match request {
            Request::Put { path, bytes, mode } => Answer::Put(self.put(process, path, bytes, mode)),
            Request::Get { path } => self.find(path, |_, stored| {
                Answer::Object(Object { bytes: stored.bytes.clone(), etag: stored.etag.clone() })
            }),
            Request::Range { path, range } => {
                self.find(path, |_, stored| Answer::Bytes(cut(&stored.bytes, range)))
            }
            Request::Head { path } => self.find(path, |path, stored| Answer::Meta(meta(path, stored))),
            Request::Page { prefix, after, most } => self.page(prefix, after.as_deref(), *most),
            Request::Delete { path } => self.delete(process, path),
        };
        self.note(process, request, answer.name());
        answer
    }

    fn put(&mut self, process: u32, path: &ObjectPath, bytes: &Bytes, mode: &PutMode) -> PutOutcome {
        let current = self.objects.get(path);
        let holds = match mode {
            PutMode::Create => current.is_none(),
            PutMode::Overwrite => true,
            PutMode::Update(expected) => current.is_some_and(|stored| stored.etag == *expected),
        };
        if !holds {
            return PutOutcome::Conflict;
        }
        let etag = Etag::new(mark(bytes));
        let at = self.elapsed();
        self.watch.put(at, process, path, bytes, &self.objects);
        self.objects.insert(path.clone(), Stored { bytes: bytes.clone(), etag: etag.clone() });
        PutOutcome::Stored(etag)
    }

    fn delete(&mut self, process: u32, path: &ObjectPath) -> Answer {
        if self.objects.contains_key(path) {
            let at = self.elapsed();
            self.watch.delete(at, process, path);
            self.objects.remove(path);
        }
        Answer::Deleted
    }

    fn find(&self, path: &ObjectPath, found: impl Fn(&ObjectPath, &Stored) -> Answer) -> Answer {
        self.objects.get(path).map_or(Answer::NotFound, |stored| found(path, stored))
    }

    fn page(&self, prefix: &str, after: Option<&str>, most: usize) -> Answer {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let matching = self.objects.range::<str, _>((from, Bound::Unbounded));
        let mut matching = matching.take_while(|(path, _)| path.as_str().starts_with(prefix));
        let page = matching.by_ref().take(most).map(|(path, stored)| meta(path, stored)).collect();
        Answer::Page(page, matching.next().is_some())
    }
}

fn cut(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let end = range.end.min(bytes.len() as u64) as usize;
    bytes.slice((range.start as usize).min(end)..end)
}

fn meta(path: &ObjectPath, stored: &Stored) -> ObjectMeta {
    let tag = ChangeTag::new(stored.etag.as_str());
    ObjectMeta { path: path.clone(), size: stored.bytes.len() as u64, tag }
}

/// A mark of content alone, as S3's etag is: whoever writes the same bytes again brings the old mark back.
fn mark(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
