use super::*;
use crate::scripted::{Scripted, Step, broken, contended, path};
use crate::{LARGE, put_large};

const POLICY: RetryPolicy = RetryPolicy {
    wait_for_room: false,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(8),
    give_up_after: Duration::from_secs(600),
};

fn over(scripted: &Scripted, seed: u64) -> Retrying {
    Retrying::new(Arc::new(scripted.clone()), POLICY, seed)
}

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn failures(number: usize) -> Vec<Step> {
    vec![Step::Fail(broken()); number]
}

#[tokio::test(start_paused = true)]
async fn each_call_gets_through_transient_errors() {
    let scripted = Scripted::new();
    let store = over(&scripted, 1);
    let at = path("a");
    scripted.script([Step::Fail(contended()), Step::Fail(broken()), Step::Pass]);
    assert!(matches!(store.put(&at, body("1"), PutMode::Create).await, Ok(PutOutcome::Stored(_))));
    let fail_once = || scripted.script(failures(1));
    fail_once();
    assert_eq!(store.get(&at).await.unwrap().bytes, "1");
    fail_once();
    assert_eq!(store.get_range(&at, 0..1).await.unwrap(), "1");
    fail_once();
    assert_eq!(store.head(&at).await.unwrap().size, 1);
    fail_once();
    assert_eq!(store.list("", None).await.unwrap().len(), 1);
    fail_once();
    store.delete(&at).await.unwrap();
    fail_once();
    let mut upload = store.multipart(&at).await.unwrap();
    fail_once();
    upload.part(body("2")).await.unwrap();
    fail_once();
    assert!(matches!(upload.complete(PutMode::Create).await, Ok(PutOutcome::Stored(_))));
    assert_eq!(store.get(&at).await.unwrap().bytes, "2");
    assert_eq!(scripted.calls().len(), 3 + 8 * 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_told_at_once() {
    let scripted = Scripted::new();
    let store = over(&scripted, 1);
    let denied = StoreError::Denied {
        path: "a".into(),
        source: Arc::new(std::io::ErrorKind::PermissionDenied.into()),
    };
    scripted.script([Step::Fail(denied)]);
    assert!(matches!(store.get(&path("a")).await, Err(StoreError::Denied { .. })));
    assert!(store.get(&path("a")).await.unwrap_err().is_not_found());
    assert_eq!(scripted.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_the_longest_and_follow_from_the_seed() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let scripted = Scripted::new();
        scripted.script(failures(30));
        over(&scripted, seed).list("", None).await.unwrap();
        let instants = scripted.instants();
        let pauses: Vec<Duration> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (n, pause) in pauses.iter().enumerate() {
            // The timer of the runtime counts whole milliseconds, upwards.
            let longest = Duration::from_secs(8.min(1 << n.min(3))) + Duration::from_millis(1);
            assert!(*pause <= longest, "pause {n}: {pause:?}");
        }
        assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(4)), "{pauses:?}");
        assert!(pauses[3..].iter().any(|pause| *pause < Duration::from_secs(4)), "{pauses:?}");
        runs.push(pauses);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_in_time() {
    let scripted = Scripted::new();
    scripted.script(failures(1_000));
    let began = Instant::now();
    let error = over(&scripted, 3).get(&path("a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    let took = began.elapsed();
    assert!(took <= POLICY.give_up_after && took + POLICY.longest >= POLICY.give_up_after, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_looks_like_a_conflict() {
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let scripted = Scripted::new();
        scripted.script([Step::Lose(broken())]);
        let outcome = over(&scripted, 1).put(&path("a"), body("mine"), mode.clone()).await.unwrap();
        assert_eq!(outcome == PutOutcome::Conflict, mode == PutMode::Create, "{outcome:?}");
        assert_eq!(scripted.get(&path("a")).await.unwrap().bytes, "mine");
    }
}

/// The calls that storing a large body takes when its completion meets `step`, and the outcome.
async fn large_with(step: Step) -> (Vec<&'static str>, PutOutcome) {
    let scripted = Scripted::new();
    scripted.script([Step::Pass, Step::Pass, Step::Pass, step]);
    let bytes = Bytes::from(vec![1; LARGE + 1]);
    let outcome = put_large(&over(&scripted, 1), &path("a"), bytes.clone(), PutMode::Create).await.unwrap();
    assert!(scripted.get(&path("a")).await.unwrap().bytes == bytes);
    let mut calls = scripted.calls();
    calls.pop();
    (calls, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_repeated_where_that_helps_and_else_the_upload() {
    let upload = ["multipart", "part", "part", "complete"];
    let (calls, outcome) = large_with(Step::Fail(broken())).await;
    assert_eq!(calls, [&upload[..], &["complete"]].concat());
    assert_ne!(outcome, PutOutcome::Conflict);

    let (calls, outcome) = large_with(Step::Fail(contended())).await;
    assert_eq!(calls, [&upload[..], &["abort"], &upload].concat());
    assert_ne!(outcome, PutOutcome::Conflict);

    // The repeated completion finds the upload gone, and the next upload finds the object there.
    let (calls, outcome) = large_with(Step::Lose(broken())).await;
    assert_eq!(calls, [&upload[..], &["complete", "abort"], &upload].concat());
    assert_eq!(outcome, PutOutcome::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_is_always_contended_is_given_up() {
    let scripted = Scripted::new();
    for _ in 0..10 {
        scripted.script([Step::Pass, Step::Pass, Step::Pass, Step::Fail(contended())]);
    }
    let bytes = Bytes::from(vec![1; LARGE + 1]);
    let error = put_large(&over(&scripted, 1), &path("a"), bytes, PutMode::Create).await.unwrap_err();
    assert!(matches!(error, StoreError::Contended { .. }), "{error:?}");
    assert_eq!(scripted.calls().iter().filter(|call| **call == "multipart").count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_medium_is_waited_for_where_that_is_wanted() {
    let full = || StoreError::DiskFull {
        path: "a".into(),
        source: Arc::new(std::io::ErrorKind::StorageFull.into()),
    };
    let scripted = Scripted::new();
    scripted.script([Step::Fail(full())]);
    let told = over(&scripted, 1).put(&path("a"), body("1"), PutMode::Create).await;
    assert!(matches!(told, Err(StoreError::DiskFull { .. })), "{told:?}");
    let patient = RetryPolicy { wait_for_room: true, ..POLICY };
    let store = Retrying::new(Arc::new(scripted.clone()), patient, 1);
    scripted.script([Step::Fail(full()), Step::Fail(full()), Step::Pass]);
    assert!(matches!(store.put(&path("a"), body("1"), PutMode::Create).await, Ok(PutOutcome::Stored(_))));
}
