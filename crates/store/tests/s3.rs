//! The S3 store against real servers on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking, or that it is skipped"
)]

#[path = "s3/answers.rs"]
mod answers;
#[path = "s3/outage.rs"]
mod outage;
#[path = "s3/servers.rs"]
mod servers;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use thresher_store::{
    Broken, Metered, ObjectPath, ObjectStore, ProbeError, PutMode, RetryPolicy, Retrying, S3, S3Credentials,
    S3Options, StoreError, StoreUrl, conformance, probe,
};
use thresher_testkit::{HeedlessProxy, S3Server, S3ServerKind};

use self::servers::{options, start};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_conforms() {
    let Some(running) = start(S3ServerKind::Versitygw) else { return };
    conformance::check(Arc::new(running.store().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_conforms_as_far_as_it_goes() {
    let Some(running) = start(S3ServerKind::Moto) else { return };
    conformance::check_without_updates_in_parts(Arc::new(running.store().await)).await;
}

#[tokio::test]
async fn good_servers_pass_the_probe() {
    for kind in [S3ServerKind::Versitygw, S3ServerKind::Moto] {
        let Some(running) = start(kind) else { continue };
        let store = Metered::new(Arc::new(running.store().await));
        let retrying = Retrying::new(Arc::new(store.clone()), RetryPolicy::default(), 1);
        let probes = ["a", "b", "c"].map(|nonce| probe(&retrying, "some/prefix", nonce));
        for done in join_all(probes).await {
            done.unwrap();
        }
        assert_eq!(store.list("", None).await.unwrap(), [], "{kind:?}: a probe left something");
        let usage = store.usage();
        assert!(usage.writes() + usage.reads() < 3 * 150, "{kind:?}: {usage:?}");
    }
}

fn refusal(done: Result<(), ProbeError>) -> Broken {
    let error = done.expect_err("the server is not safe");
    assert!(error.to_string().contains("known to work: AWS S3, versitygw"), "{error}");
    match error {
        ProbeError::Unsafe { broken } => broken,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_loses_races_is_refused() {
    let Some(running) = start(S3ServerKind::S3sFs) else { return };
    let broken = refusal(probe(&running.store().await, "", "n").await);
    assert!([Broken::CreateRace, Broken::UpdateRace].contains(&broken), "{broken:?}");
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_refused() {
    let Some(running) = start(S3ServerKind::Moto) else { return };
    let proxy = HeedlessProxy::start(running.server.address()).await.unwrap();
    let store = S3::connect(S3Server::BUCKET, &options(proxy.endpoint())).await.unwrap();
    assert_eq!(refusal(probe(&store, "", "n").await), Broken::CreateTwice);
    assert_eq!(store.list("", None).await.unwrap(), []);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let Some(running) = start(S3ServerKind::Versitygw) else { return };
    let endpoint = running.server.endpoint();
    let connect = async |bucket, options| S3::connect(bucket, &options).await.unwrap();
    let at = path("a");

    let no_bucket = connect("no-such-bucket", options(&endpoint)).await;
    for error in [
        no_bucket.put(&at, Bytes::new(), PutMode::Create).await.unwrap_err(),
        no_bucket.get(&at).await.unwrap_err(),
        no_bucket.list("", None).await.unwrap_err(),
        no_bucket.multipart(&at).await.err().unwrap(),
    ] {
        assert!(matches!(&error, StoreError::NoBucket { bucket } if bucket == "no-such-bucket"), "{error:?}");
    }

    let wrong = S3Credentials::new(S3Server::ACCESS_KEY_ID, "not-the-secret");
    let stranger =
        connect(S3Server::BUCKET, S3Options { credentials: Some(wrong), ..options(&endpoint) }).await;
    let denied = stranger.put(&at, Bytes::new(), PutMode::Create).await.unwrap_err();
    assert!(matches!(denied, StoreError::Denied { .. }), "{denied:?}");
    assert!(!format!("{denied:?}").contains("not-the-secret"), "{denied:?}");

    let mut running = running;
    let store = running.store().await;
    running.server.kill();
    let down = store.get(&at).await.unwrap_err();
    assert!(matches!(down, StoreError::Io { .. }) && down.is_transient(), "{down:?}");
    assert!(down.to_string().contains("refused"), "{down}");
}

#[tokio::test]
async fn listings_of_many_pages_are_whole_and_skip_what_is_not_ours() {
    let Some(running) = start(S3ServerKind::Versitygw) else { return };
    let store = running.store().await;
    let names: Vec<String> = (0..2_100).map(|n| format!("log/{n:06}")).collect();
    for some in names.chunks(50) {
        let paths: Vec<ObjectPath> = some.iter().map(|name| path(name)).collect();
        let puts = paths.iter().map(|path| store.put(path, Bytes::from_static(b"1"), PutMode::Create));
        assert!(join_all(puts).await.iter().all(Result::is_ok));
    }
    std::fs::write(running.bucket().join("log/.foreign"), "not ours").unwrap();
    for (after, skipped) in
        [(None, 0), (Some("log/000009"), 10), (Some("log/001999"), 2_000), (Some("m"), 2_100)]
    {
        let listed = store.list("log/", after).await.unwrap();
        let listed: Vec<&str> = listed.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(listed, names[skipped..], "after {after:?}");
    }
}

#[tokio::test]
async fn a_url_opens_a_bucket() {
    let Some(running) = start(S3ServerKind::Versitygw) else { return };
    let url = StoreUrl::parse(&format!("s3://{}/some/prefix/", S3Server::BUCKET)).unwrap();
    let (store, prefix) = url.with_s3(options(&running.server.endpoint())).open().await.unwrap();
    assert_eq!(prefix, "some/prefix");
    store.put(&path("some/prefix/a"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap();
    assert_eq!(std::fs::read(running.bucket().join("some/prefix/a")).unwrap(), b"1");

    for endpoint in ["127.0.0.1:7070", "http://", "http://user:password@host"] {
        let refused = S3::connect(S3Server::BUCKET, &options(endpoint)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Rejected { .. }), "{refused:?}");
        assert!(!refused.to_string().contains("password@"), "{refused}");
    }
}
