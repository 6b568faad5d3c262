//! A server that is killed in the middle of writes and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use thresher_store::{
    LARGE, MIN_PART, ObjectPath, ObjectStore, PutMode, PutOutcome, RetryPolicy, Retrying, put_large,
};
use thresher_testkit::S3ServerKind;
use tokio::task::JoinSet;

use super::path;
use super::servers::{Running, start};

const WRITERS: usize = 6;
const OBJECTS: usize = 60;
const KILLS: usize = 4;

/// Comes back soon, and gives up only when the test is broken.
const POLICY: RetryPolicy = RetryPolicy {
    wait_for_room: false,
    first: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    give_up_after: Duration::from_secs(600),
};

async fn retrying(running: &Running, seed: u64) -> Arc<dyn ObjectStore> {
    Arc::new(Retrying::new(Arc::new(running.store().await), POLICY, seed))
}

/// Creates an object and says whether it is this writer's, as a caller does who knows that acknowledgements get lost.
async fn create_own(store: &dyn ObjectStore, at: &ObjectPath, body: Bytes) -> bool {
    match put_large(store, at, body.clone(), PutMode::Create).await.unwrap() {
        PutOutcome::Stored(_) => true,
        PutOutcome::Conflict => store.get(at).await.unwrap().bytes == body,
    }
}

fn body(writer: usize, number: usize) -> Bytes {
    format!("writer {writer}, object {number}\n").repeat(200).into()
}

fn object(number: usize) -> ObjectPath {
    path(&format!("outage/{number:04}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let Some(mut running) = start(S3ServerKind::Versitygw) else { return };
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, acknowledged) = (retrying(&running, writer as u64).await, Arc::clone(&acknowledged));
        writers.spawn(async move {
            let mut own = Vec::new();
            // All writers want the same paths, so that each object has one winner.
            for number in 0..OBJECTS {
                if create_own(&*store, &object(number), body(writer, number)).await {
                    own.push((writer, number));
                }
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            own
        });
    }
    for kill in 1..=KILLS {
        let enough = kill * WRITERS * OBJECTS / (KILLS + 1);
        while acknowledged.load(Ordering::SeqCst) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        running.server.restart().unwrap();
    }
    let mut winners: Vec<(usize, usize)> = writers.join_all().await.into_iter().flatten().collect();
    winners.sort_by_key(|(_, number)| *number);
    let numbers: Vec<usize> = winners.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (0..OBJECTS).collect::<Vec<_>>(), "each object has one writer that knows it");
    let store = running.store().await;
    for (writer, number) in winners {
        assert_eq!(store.get(&object(number)).await.unwrap().bytes, body(writer, number));
    }
    assert_eq!(store.list("", None).await.unwrap().len(), OBJECTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart() {
    let Some(mut running) = start(S3ServerKind::Versitygw) else { return };
    let store = retrying(&running, 1).await;
    let at = path("parts/a");
    let mut upload = store.multipart(&at).await.unwrap();
    upload.part(Bytes::from(vec![1; MIN_PART])).await.unwrap();
    running.server.kill();
    let rest = tokio::spawn(async move {
        upload.part(Bytes::from_static(b"end")).await.unwrap();
        upload.complete(PutMode::Create).await.unwrap()
    });
    running.server.restart().unwrap();
    assert_ne!(rest.await.unwrap(), PutOutcome::Conflict);
    assert_eq!(store.head(&at).await.unwrap().size, MIN_PART as u64 + 3);

    let large: Bytes = (0..=250).cycle().take(LARGE + 5).collect();
    assert!(create_own(&*store, &path("parts/large"), large.clone()).await);
    running.server.restart().unwrap();
    assert!(store.get(&path("parts/large")).await.unwrap().bytes == large);
}
