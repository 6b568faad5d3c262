//! Both stores keep the promises of the trait.

use std::sync::Arc;

use thresher_store::{LocalDir, Memory, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conformance::check(Arc::new(Memory::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    conformance::check(Arc::new(LocalDir::new(root.path().join("made/at/first/put")))).await;
}
