//! What servers say on bad days, word for word, and what it means to a caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use thresher_store::{Etag, ObjectStore, PutMode, PutOutcome, S3, S3Options, StoreError, Timeouts};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::path;
use super::servers::options;

/// A server that gives every request one answer. It stops when dropped.
struct Canned {
    store: S3,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn xml(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>")
}

impl Canned {
    /// A server that answers with `status` and the error `code`, but lets uploads begin.
    async fn start(status: u16, code: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (counter, body) =
            (Arc::clone(&requests), if code.is_empty() { String::new() } else { xml(code) });
        let status = StatusCode::from_u16(status).unwrap();
        let answer = async move |method: Method, uri: axum::http::Uri| {
            counter.fetch_add(1, Ordering::SeqCst);
            let query = uri.query().unwrap_or_default();
            if method == Method::POST && !query.contains("uploadId") {
                let begun =
                    "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
                return begun.into_response();
            }
            if query.contains("partNumber") {
                return [(header::ETAG, "\"p\"")].into_response();
            }
            (status, body.clone()).into_response()
        };
        let routes = Router::new().fallback(answer);
        // Serving ends only with this task.
        let serving = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        let store = S3::connect("bucket", &options(&endpoint)).await.unwrap();
        Self { store, requests, serving }
    }

    async fn put(&self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.store.put(&path("a"), Bytes::from_static(b"1"), mode).await
    }

    async fn put_in_parts(&self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let mut upload = self.store.multipart(&path("a")).await?;
        upload.part(Bytes::from_static(b"1")).await?;
        upload.complete(mode).await
    }
}

/// The variant's name.
fn variant(error: &StoreError) -> String {
    format!("{error:?}").split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn refused_writes_are_told_apart() {
    for (status, code, expected) in [
        (409, "ConditionalRequestConflict", "Contended"),
        (503, "SlowDown", "Throttled"),
        (503, "", "Io"),
        (500, "InternalError", "Io"),
        (403, "AccessDenied", "Denied"),
        (404, "NoSuchBucket", "NoBucket"),
        (404, "NoSuchUpload", "UploadGone"),
        (501, "NotImplemented", "Rejected"),
    ] {
        let server = Canned::start(status, code).await;
        let error = server.put(PutMode::Create).await.unwrap_err();
        assert_eq!(variant(&error), expected, "{status} {code}: {error:?}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1, "{status} {code}: each call is one try");
        let error = server.put_in_parts(PutMode::Create).await.unwrap_err();
        assert_eq!(variant(&error), expected, "in parts, {status} {code}: {error:?}");
    }
}

#[tokio::test]
async fn unmet_conditions_are_values() {
    let update = || PutMode::Update(Etag::new("\"e\""));
    for (status, code, mode) in [
        (412, "PreconditionFailed", PutMode::Create),
        (412, "PreconditionFailed", update()),
        (412, "", update()),
        (404, "NoSuchKey", update()),
        (404, "", update()),
    ] {
        let server = Canned::start(status, code).await;
        assert_eq!(server.put(mode.clone()).await.unwrap(), PutOutcome::Conflict, "{status} {code}");
        assert_eq!(
            server.put_in_parts(mode).await.unwrap(),
            PutOutcome::Conflict,
            "in parts, {status} {code}"
        );
    }
}

#[tokio::test]
async fn a_completion_may_fail_after_its_status() {
    let server = Canned::start(200, "InternalError").await;
    let error = server.put_in_parts(PutMode::Create).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    // Connections are made, and nobody ever takes them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let short = Timeouts { read: Duration::from_millis(50), ..Timeouts::default() };
    let store = S3::connect("bucket", &S3Options { timeouts: short, ..options(&endpoint) }).await.unwrap();
    let error = store.get(&path("a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("timeout"), "{error}");
}
