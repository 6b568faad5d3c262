//! Image locks: one image for each reference of a run.

use std::sync::Arc;

use thresher_store::Memory;

use crate::conflicts::count;
use crate::hooked::{Trouble, plain, troubled};

const IMAGE: &str = "registry.example:5000/Team/app:1";

#[tokio::test]
async fn i1_to_i3_a_reference_is_resolved_once() {
    let shared = Arc::new(Memory::new());
    let ledger = plain(&shared);
    assert_eq!(ledger.locked_image(IMAGE).await.unwrap(), None);
    let lock = ledger.lock_image(IMAGE, "sha256:aa").await.unwrap();
    assert_eq!((lock.image.as_str(), lock.digest.as_str()), (IMAGE, "sha256:aa"));
    assert_eq!(ledger.locked_image(IMAGE).await.unwrap(), Some(lock));
    // Another one, which differs in its case alone.
    assert_eq!(ledger.locked_image(&IMAGE.to_lowercase()).await.unwrap(), None);
    assert_eq!(count(&shared, "locks/").await, 1);
}

#[tokio::test]
async fn i3_the_first_resolution_counts() {
    let shared = Arc::new(Memory::new());
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        assert_eq!(other.lock_image(IMAGE, "sha256:bb").await.unwrap().digest, "sha256:bb");
    });
    let lock = troubled(&shared, "locks/", act).lock_image(IMAGE, "sha256:aa").await.unwrap();
    assert_eq!(lock.digest, "sha256:bb");
    assert_eq!(plain(&shared).locked_image(IMAGE).await.unwrap(), Some(lock));
}

#[tokio::test]
async fn i3_an_acknowledgement_that_was_lost_does_no_harm() {
    let shared = Arc::new(Memory::new());
    let ledger = troubled(&shared, "locks/", Trouble::LostAcknowledgement);
    assert_eq!(ledger.lock_image(IMAGE, "sha256:aa").await.unwrap().digest, "sha256:aa");
    assert_eq!(count(&shared, "locks/").await, 1);
}
