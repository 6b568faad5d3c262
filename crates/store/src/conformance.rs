//! What every store must do, as a suite that each store's tests run.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Etag, LARGE, MIN_PART, Multipart, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError, put_large,
};

/// Runs the whole suite on `store`, which must be empty. Panics with the first promise that is not kept.
pub async fn check(store: Arc<dyn ObjectStore>) {
    check_without_updates_in_parts(Arc::clone(&store)).await;
    a_completion_compares_and_swaps(&*store).await;
}

/// The suite without conditional updates by multipart uploads, which not every server knows.
pub async fn check_without_updates_in_parts(store: Arc<dyn ObjectStore>) {
    create_is_exclusive(&*store).await;
    update_compares_and_swaps(&*store).await;
    reads_give_back_what_was_stored(&*store).await;
    absent_objects_are_named(&*store).await;
    listings_are_sorted_and_cut_by_text(&*store).await;
    listings_begin_after_a_path(&*store).await;
    replacement_changes_the_tag(&*store).await;
    parts_become_one_object(&*store).await;
    a_completion_creates_exclusively(&*store).await;
    large_bodies_are_stored_whole(&*store).await;
    one_of_eight_creators_wins(&store).await;
    one_of_eight_uploaders_wins(&store).await;
    concurrent_updates_lose_nothing(&store).await;
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("the suite's paths are valid")
}

async fn put(store: &dyn ObjectStore, at: &str, bytes: &[u8], mode: PutMode) -> PutOutcome {
    store.put(&path(at), Bytes::copy_from_slice(bytes), mode).await.expect("a put")
}

async fn content(store: &dyn ObjectStore, at: &str) -> Bytes {
    store.get(&path(at)).await.expect("a get").bytes
}

fn stored(outcome: PutOutcome) -> Etag {
    match outcome {
        PutOutcome::Stored(etag) => etag,
        PutOutcome::Conflict => panic!("an unexpected conflict"),
    }
}

async fn create_is_exclusive(store: &dyn ObjectStore) {
    stored(put(store, "create/a", b"first", PutMode::Create).await);
    for again in [&b"first"[..], b"second"] {
        assert_eq!(put(store, "create/a", again, PutMode::Create).await, PutOutcome::Conflict);
    }
    assert_eq!(content(store, "create/a").await, "first");
    stored(put(store, "create/a", b"third", PutMode::Overwrite).await);
    assert_eq!(content(store, "create/a").await, "third");
    store.delete(&path("create/a")).await.expect("a delete");
    stored(put(store, "create/a", b"fourth", PutMode::Create).await);
}

async fn update_compares_and_swaps(store: &dyn ObjectStore) {
    let absent = put(store, "update/a", b"x", PutMode::Update(Etag::new("none"))).await;
    assert_eq!(absent, PutOutcome::Conflict, "an absent object cannot be updated");
    let first = stored(put(store, "update/a", b"1", PutMode::Create).await);
    assert_eq!(store.get(&path("update/a")).await.expect("a get").etag, first);
    let second = stored(put(store, "update/a", b"2", PutMode::Update(first.clone())).await);
    assert_ne!(first, second);
    assert_eq!(put(store, "update/a", b"3", PutMode::Update(first)).await, PutOutcome::Conflict);
    assert_eq!(content(store, "update/a").await, "2");
}

async fn reads_give_back_what_was_stored(store: &dyn ObjectStore) {
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for (name, bytes) in [("read/empty", &all[..0]), ("read/large", &all)] {
        put(store, name, bytes, PutMode::Create).await;
        assert_eq!(content(store, name).await, bytes);
        assert_eq!(store.head(&path(name)).await.expect("a head").size, bytes.len() as u64);
    }
    for (range, expected) in [
        (0..10, &all[..10]),
        (299_990..300_000, &all[299_990..]),
        (299_990..400_000, &all[299_990..]),
        (300_000..300_010, &[]),
        (400_000..400_010, &[]),
        (5..5, &[]),
    ] {
        let read = store.get_range(&path("read/large"), range.clone()).await.expect("a ranged get");
        assert_eq!(read, expected, "{range:?}");
    }
}

async fn absent_objects_are_named(store: &dyn ObjectStore) {
    let absent = path("absent/a");
    let errors = [
        store.get(&absent).await.expect_err("nothing is there"),
        store.get_range(&absent, 0..1).await.expect_err("nothing is there"),
        store.head(&absent).await.expect_err("nothing is there"),
        // A folder of objects is not an object.
        store.head(&path("read")).await.expect_err("nothing is there"),
    ];
    for error in &errors {
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    }
    store.delete(&absent).await.expect("deleting what is not there is no error");
}

async fn listings_are_sorted_and_cut_by_text(store: &dyn ObjectStore) {
    for name in ["list/b", "list/a/2", "list/a/10", "list/a-b", "listing"] {
        put(store, name, name.as_bytes(), PutMode::Create).await;
    }
    for (prefix, expected) in [
        ("list/", &["list/a-b", "list/a/10", "list/a/2", "list/b"][..]),
        ("list/a/", &["list/a/10", "list/a/2"]),
        ("list/a/1", &["list/a/10"]),
        ("listi", &["listing"]),
        ("list/none/", &[]),
        ("list/b/", &[]),
    ] {
        let listed = store.list(prefix, None).await.expect("a listing");
        let names: Vec<&str> = listed.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(names, expected, "{prefix}");
        assert!(listed.iter().all(|object| object.size == object.path.as_str().len() as u64));
    }
    for (folder, expected) in [("list", &["a"][..]), ("list/a", &[]), ("none", &[])] {
        assert_eq!(store.folders(folder).await.expect("a listing of folders"), expected, "{folder}");
    }
    assert!(store.folders("").await.expect("a listing of folders").contains(&"list".to_owned()));
    store.delete(&path("list/b")).await.expect("a delete");
    assert_eq!(store.list("list/b", None).await.expect("a listing"), []);
}

async fn listings_begin_after_a_path(store: &dyn ObjectStore) {
    for name in ["log/0008", "log/0009", "log/0010", "log/deep/1", "log/deep/2", "log/deep-er"] {
        put(store, name, b"entry", PutMode::Create).await;
    }
    let all = ["log/0008", "log/0009", "log/0010", "log/deep-er", "log/deep/1", "log/deep/2"];
    let after_all = ["log/deep/2", "log/deep/9", "log/e", "z"].map(|after| (after, 6));
    let others =
        [("", 0), ("l", 0), ("log/", 0), ("log/0008", 1), ("log/00085", 1), ("log/0010", 3), ("log/1", 3)];
    let deeper = [("log/deep", 3), ("log/deep-er", 4), ("log/deep/", 4), ("log/deep/1", 5), ("log/deep.", 4)];
    for (after, skipped) in others.into_iter().chain(deeper).chain(after_all) {
        assert_eq!(names(store, "log/", Some(after)).await, all[skipped..], "after {after}");
    }
    assert_eq!(names(store, "log/deep/", Some("log/0009")).await, ["log/deep/1", "log/deep/2"]);
}

async fn names(store: &dyn ObjectStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    let listed = store.list(prefix, after).await.expect("a listing");
    listed.into_iter().map(|object| object.path.as_str().to_owned()).collect()
}

async fn replacement_changes_the_tag(store: &dyn ObjectStore) {
    let mut seen = Vec::new();
    for content in ["1", "2", "3", "33"] {
        put(store, "tag/a", content.as_bytes(), PutMode::Overwrite).await;
        let listed = store.list("tag/", None).await.expect("a listing");
        assert_eq!(listed, store.list("tag/", None).await.expect("a listing"), "nothing changed in between");
        let tag = listed[0].tag.clone();
        assert_eq!(store.head(&path("tag/a")).await.expect("a head").tag, tag);
        assert!(!seen.contains(&tag), "{tag:?} again, after {seen:?}");
        seen.push(tag);
    }
}

/// Uploads `parts` to `at` and leaves the completion to the caller.
async fn upload(store: &dyn ObjectStore, at: &str, parts: &[Bytes]) -> Box<dyn Multipart> {
    let mut upload = store.multipart(&path(at)).await.expect("an upload begins");
    for part in parts {
        upload.part(part.clone()).await.expect("a part");
    }
    upload
}

async fn parts_become_one_object(store: &dyn ObjectStore) {
    let [first, second] = [b'x', b'y'].map(|byte| Bytes::from(vec![byte; MIN_PART]));
    let last = Bytes::from_static(b"end");
    let whole = [&first[..], &second, &last].concat();
    let mut begun = upload(store, "parts/a", &[first, second, last]).await;
    assert!(store.head(&path("parts/a")).await.expect_err("not complete").is_not_found());
    assert_eq!(store.list("parts/", None).await.expect("a listing"), []);
    let etag = stored(begun.complete(PutMode::Create).await.expect("a completion"));
    let read = store.get(&path("parts/a")).await.expect("a get");
    assert!(read.bytes == whole && read.etag == etag);
    let again = begun.complete(PutMode::Overwrite).await.expect_err("the upload is over");
    assert!(matches!(again, StoreError::UploadGone { .. }), "{again:?}");
    let more = begun.part(Bytes::new()).await.expect_err("the upload is over");
    assert!(matches!(more, StoreError::UploadGone { .. }), "{more:?}");

    let mut empty = upload(store, "parts/empty", &[]).await;
    stored(empty.complete(PutMode::Create).await.expect("a completion"));
    assert_eq!(content(store, "parts/empty").await, "");

    upload(store, "parts/aborted", &[Bytes::from_static(b"1")]).await.abort().await;
    assert!(store.head(&path("parts/aborted")).await.expect_err("given up").is_not_found());
}

async fn a_completion_creates_exclusively(store: &dyn ObjectStore) {
    let at = "complete/a";
    stored(put_in_parts(store, at, "1", PutMode::Create).await);
    assert_eq!(put_in_parts(store, at, "2", PutMode::Create).await, PutOutcome::Conflict);
    assert_eq!(put(store, at, b"2", PutMode::Create).await, PutOutcome::Conflict);
    assert_eq!(content(store, at).await, "1");
    let second = stored(put_in_parts(store, at, "2", PutMode::Overwrite).await);
    assert_eq!(content(store, at).await, "2");
    stored(put(store, at, b"3", PutMode::Update(second)).await);
    assert_eq!(put_in_parts(store, at, "4", PutMode::Create).await, PutOutcome::Conflict);
    assert_eq!(content(store, at).await, "3");
}

async fn a_completion_compares_and_swaps(store: &dyn ObjectStore) {
    let at = "swap/a";
    let never = PutMode::Update(Etag::new("\"00000000000000000000000000000000\""));
    assert_eq!(put_in_parts(store, at, "0", never.clone()).await, PutOutcome::Conflict, "nothing to update");
    let first = stored(put_in_parts(store, at, "1", PutMode::Create).await);
    assert_eq!(put_in_parts(store, at, "2", never).await, PutOutcome::Conflict);
    assert_eq!(content(store, at).await, "1");
    let second = stored(put_in_parts(store, at, "2", PutMode::Update(first.clone())).await);
    assert_eq!(put_in_parts(store, at, "3", PutMode::Update(first)).await, PutOutcome::Conflict);
    assert_ne!(stored(put_in_parts(store, at, "3", PutMode::Update(second.clone())).await), second);
    assert_eq!(content(store, at).await, "3");
}

async fn put_in_parts(store: &dyn ObjectStore, at: &str, text: &str, mode: PutMode) -> PutOutcome {
    let part = Bytes::copy_from_slice(text.as_bytes());
    upload(store, at, &[part]).await.complete(mode).await.expect("a completion")
}

async fn large_bodies_are_stored_whole(store: &dyn ObjectStore) {
    let body: Bytes = (0..=250).cycle().take(2 * LARGE + 1).collect();
    let at = path("large/a");
    for conflicts in [false, true] {
        let outcome = put_large(store, &at, body.clone(), PutMode::Create).await.expect("a put");
        assert_eq!(outcome == PutOutcome::Conflict, conflicts, "{outcome:?}");
    }
    assert!(content(store, "large/a").await == body);
}

/// Starts eight tasks at once and waits for them.
async fn race<T: Send + 'static, F>(run: impl Fn(u8) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..8).map(|writer| tokio::spawn(run(writer))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a racer does not panic"));
    }
    results
}

async fn one_of_eight_creators_wins(store: &Arc<dyn ObjectStore>) {
    for round in 0..20 {
        let at = format!("race/{round}");
        let outcomes = race(|writer| {
            let (store, at) = (Arc::clone(store), at.clone());
            async move { put(&*store, &at, &vec![writer; 5_000], PutMode::Create).await }
        })
        .await;
        let winners: Vec<usize> = (0..8).filter(|&writer| outcomes[writer] != PutOutcome::Conflict).collect();
        assert_eq!(winners.len(), 1, "round {round}: {outcomes:?}");
        assert_eq!(content(&**store, &at).await, vec![winners[0] as u8; 5_000], "the winner's bytes stay");
    }
}

async fn one_of_eight_uploaders_wins(store: &Arc<dyn ObjectStore>) {
    for round in 0..5 {
        let at = format!("uploads/{round}");
        let outcomes = race(|writer| {
            let (store, at) = (Arc::clone(store), at.clone());
            async move { put_in_parts(&*store, &at, &writer.to_string(), PutMode::Create).await }
        })
        .await;
        let winners: Vec<usize> = (0..8).filter(|&writer| outcomes[writer] != PutOutcome::Conflict).collect();
        assert_eq!(winners.len(), 1, "round {round}: {outcomes:?}");
        assert_eq!(content(&**store, &at).await, winners[0].to_string(), "the winner's bytes stay");
    }
}

async fn concurrent_updates_lose_nothing(store: &Arc<dyn ObjectStore>) {
    put(&**store, "count/a", b"0", PutMode::Create).await;
    race(|_| {
        let store = Arc::clone(store);
        async move {
            for _ in 0..5 {
                increment(&*store).await;
            }
        }
    })
    .await;
    assert_eq!(content(&**store, "count/a").await, "40");
}

async fn increment(store: &dyn ObjectStore) {
    loop {
        let old = store.get(&path("count/a")).await.expect("a get");
        let text = std::str::from_utf8(&old.bytes).expect("digits");
        let next = text.parse::<u32>().expect("digits") + 1;
        let outcome = put(store, "count/a", next.to_string().as_bytes(), PutMode::Update(old.etag)).await;
        if outcome != PutOutcome::Conflict {
            return;
        }
    }
}
