//! Servers for a test, with stores over them.

use std::path::PathBuf;

use thresher_store::{S3, S3Credentials, S3Options};
use thresher_testkit::{S3Server, S3ServerKind};

/// A server with the folder of its objects; both are gone at the end.
pub(crate) struct Running {
    pub(crate) server: S3Server,
    folder: tempfile::TempDir,
}

/// Starts a server, or prints that the test is skipped.
pub(crate) fn start(kind: S3ServerKind) -> Option<Running> {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = S3Server::start(kind, folder.path()).unwrap() else {
        eprintln!("skipped: {} is not set; scripts/test installs the server", kind.variable());
        return None;
    };
    Some(Running { server, folder })
}

pub(crate) fn options(endpoint: &str) -> S3Options {
    S3Options {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: Some(S3Credentials::new(S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY)),
        ..S3Options::default()
    }
}

impl Running {
    /// Where versitygw keeps the objects.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join(S3Server::BUCKET)
    }

    pub(crate) async fn store(&self) -> S3 {
        S3::connect(S3Server::BUCKET, &options(&self.server.endpoint())).await.unwrap()
    }
}
