//! The stores on this machine keep the promises of the trait, and so does what goes around a store.

use std::sync::Arc;

use thresher_store::{
    Limited, Limits, LocalDir, Memory, Metered, ObjectStore, RetryPolicy, Retrying, conformance,
};

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conformance::check(Arc::new(Memory::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    conformance::check(Arc::new(LocalDir::new(root.path().join("made/at/first/put")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_around_a_store_conforms() {
    let metered: Arc<dyn ObjectStore> = Arc::new(Metered::new(Arc::new(Memory::new())));
    let limited = Arc::new(Limited::new(metered, Limits { reads: 2, writes: 2 }));
    conformance::check(Arc::new(Retrying::new(limited, RetryPolicy::default(), 1))).await;
}
