use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::scripted::{Scripted, Step, broken, contended};
use crate::{LocalDir, Memory, Multipart, Object, ObjectMeta, RetryPolicy, Retrying};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    ForgetsWrites,
    ListsLate,
    IgnoresCreate,
    IgnoresCreateInParts,
    IgnoresUpdate,
    CreatesOnUpdate,
    RefusesUpdates,
    ChecksCreatesTooEarly,
    ChecksUpdatesTooEarly,
}

/// A store in memory with a flaw.
#[derive(Debug)]
struct Flawed {
    memory: Memory,
    flaw: Flaw,
}

impl Flawed {
    /// The mode that the store heeds instead of `mode`, which may take a moment to find out.
    async fn heeded(&self, path: &ObjectPath, mode: PutMode) -> PutMode {
        let current = self.memory.get(path).await.ok().map(|object| object.etag);
        match (self.flaw, &mode) {
            (Flaw::IgnoresCreate, PutMode::Create) | (Flaw::IgnoresUpdate, PutMode::Update(_)) => {
                PutMode::Overwrite
            }
            (Flaw::CreatesOnUpdate, PutMode::Update(_)) if current.is_none() => PutMode::Create,
            (Flaw::RefusesUpdates, PutMode::Update(_)) => PutMode::Update(Etag::new("never")),
            (Flaw::ChecksCreatesTooEarly, PutMode::Create) if current.is_none() => {
                tokio::task::yield_now().await;
                PutMode::Overwrite
            }
            (Flaw::ChecksUpdatesTooEarly, PutMode::Update(etag)) if current.as_ref() == Some(etag) => {
                tokio::task::yield_now().await;
                PutMode::Overwrite
            }
            _ => mode,
        }
    }
}

#[async_trait]
impl ObjectStore for Flawed {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        if self.flaw == Flaw::ForgetsWrites {
            return Ok(PutOutcome::Stored(Etag::new("forgotten")));
        }
        let mode = self.heeded(path, mode).await;
        self.memory.put(path, bytes, mode).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        let inner = self.memory.multipart(path).await?;
        Ok(if self.flaw == Flaw::IgnoresCreateInParts { Box::new(Heedless(inner)) } else { inner })
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        self.memory.get(path).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.memory.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        self.memory.head(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        if self.flaw == Flaw::ListsLate { Ok(Vec::new()) } else { self.memory.list(prefix, after).await }
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.memory.delete(path).await
    }
}

/// An upload whose completion heeds no condition.
struct Heedless(Box<dyn Multipart>);

#[async_trait]
impl Multipart for Heedless {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.0.part(bytes).await
    }

    async fn complete(&mut self, _mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.0.complete(PutMode::Overwrite).await
    }

    async fn abort(self: Box<Self>) {
        self.0.abort().await;
    }
}

#[tokio::test]
async fn each_flaw_is_found_and_named() {
    for (flaw, expected) in [
        (Flaw::ForgetsWrites, Broken::ReadAfterWrite),
        (Flaw::ListsLate, Broken::ListAfterWrite),
        (Flaw::IgnoresCreate, Broken::CreateTwice),
        (Flaw::IgnoresCreateInParts, Broken::CreateInParts),
        (Flaw::IgnoresUpdate, Broken::StaleUpdate),
        (Flaw::CreatesOnUpdate, Broken::UpdateOfNothing),
        (Flaw::RefusesUpdates, Broken::RefusedWrite),
        (Flaw::ChecksCreatesTooEarly, Broken::CreateRace),
        (Flaw::ChecksUpdatesTooEarly, Broken::UpdateRace),
    ] {
        let store = Flawed { memory: Memory::new(), flaw };
        let error = probe(&store, "runs", "n1").await.unwrap_err();
        assert!(matches!(&error, ProbeError::Unsafe { broken } if *broken == expected), "{flaw:?}: {error}");
        assert!(error.to_string().contains("versitygw"), "{error}");
        assert_eq!(store.memory.list("", None).await.unwrap(), [], "{flaw:?}: something was left");
    }
}

#[tokio::test]
async fn good_stores_pass_many_probes_at_once_and_keep_nothing() {
    let root = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(Memory::new()), Arc::new(LocalDir::new(root.path()))];
    for store in stores {
        let nonces = ["a", "b", "c"];
        for done in join_all(nonces.map(|nonce| probe(&*store, "some/prefix", nonce))).await {
            done.unwrap();
        }
        probe(&*store, "", "d").await.unwrap();
        assert_eq!(store.list("", None).await.unwrap(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn passing_failures_and_lost_acknowledgements_refuse_no_store() {
    for at in 0..60 {
        for step in [Step::Fail(broken()), Step::Fail(contended()), Step::Lose(broken())] {
            let scripted = Scripted::new();
            scripted.script(vec![Step::Pass; at]);
            scripted.script([step.clone()]);
            let store = Retrying::new(Arc::new(scripted.clone()), RetryPolicy::default(), at as u64);
            let done = probe(&store, "p", "n").await;
            // An upload whose completion's answer is lost has to be made again, which a probe leaves to its caller.
            let gone =
                matches!(&done, Err(ProbeError::Store(error)) if !matches!(error, StoreError::Io { .. }));
            assert!(done.is_ok() || gone, "{step:?} at call {at}: {done:?}");
            assert_eq!(scripted.list("", None).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn what_is_no_path_is_refused_before_anything_is_written() {
    let scripted = Scripted::new();
    for (prefix, nonce) in [("a//b", "n"), ("/a", "n"), ("a", ""), ("a", "../n")] {
        let refused = probe(&scripted, prefix, nonce).await;
        assert!(matches!(refused, Err(ProbeError::Path(_))), "{prefix} {nonce}: {refused:?}");
    }
    assert_eq!(scripted.calls(), [""; 0]);
}
