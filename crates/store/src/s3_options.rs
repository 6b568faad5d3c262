//! How a bucket is reached, as plain data.

use std::fmt;
use std::time::Duration;

/// What a URL does not say about a bucket. What is `None` here is found as the AWS tools find it: environment
/// variables such as `AWS_REGION` and `AWS_ENDPOINT_URL_S3`, profiles, web identity, the instance's own role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The server's URL, such as `http://127.0.0.1:7070`, where it is not AWS.
    pub endpoint: Option<String>,
    /// The region; with an endpoint of one's own it means nothing and defaults to `us-east-1`.
    pub region: Option<String>,
    /// Where a request names the bucket.
    pub addressing: Addressing,
    /// The key to sign with.
    pub credentials: Option<S3Credentials>,
    /// How long a request may take.
    pub timeouts: Timeouts,
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path where an endpoint is set, which every server understands; in the host name on AWS.
    #[default]
    ByEndpoint,
    /// In the path.
    Path,
}

/// A long-lived key. Its secret is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl S3Credentials {
    /// Wraps a key.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into() }
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Credentials({}, ..)", self.access_key_id)
    }
}

/// How long one try of a request may take before it counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection is there.
    pub connect: Duration,
    /// From sending the request, with its body, until the response begins.
    pub read: Duration,
    /// The whole try, except for reading a large body, which is given up once it stalls.
    pub attempt: Duration,
}

impl Default for Timeouts {
    /// A part of 16 MiB gets through at 3 Mbit/s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), read: seconds(45), attempt: seconds(60) }
    }
}
