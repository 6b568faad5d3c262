//! The S3 store against real servers on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking, or that it is skipped"
)]

#[path = "s3/servers.rs"]
mod servers;

use std::sync::Arc;

use thresher_store::conformance;
use thresher_testkit::S3ServerKind;

use self::servers::start;

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
