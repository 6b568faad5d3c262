//! What a server's answers mean.

use std::error::Error;
use std::io;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;

use crate::{Etag, PutMode, PutOutcome, StoreError};

/// A request that did not succeed, without the SDK's types. Its text holds no header, so no key and no signature.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The status of the response; `None` if there was none.
    status: Option<u16>,
    /// The server's word for the error; empty where it gave none.
    code: String,
    /// Everything that helps a person.
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The server said so.
    Answer,
    /// The request never left: it is not valid.
    Unsent,
    /// The request never left: there are no credentials to sign it with.
    Unsigned,
    /// No answer, or none that can be understood; the request may have taken effect.
    Unknown,
}

impl Failure {
    pub(super) fn of<E>(error: SdkError<E>) -> Self
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let (kind, code, text) = match &error {
            SdkError::ServiceError(context) => {
                let meta = context.err().meta();
                let code = meta.code().unwrap_or_default();
                let message = meta.message().unwrap_or_default();
                let request = error.request_id().map_or_else(String::new, |id| format!(" (request {id})"));
                let status = status.unwrap_or_default();
                (Kind::Answer, code.to_owned(), format!("{status} {code}: {message}{request}"))
            }
            SdkError::DispatchFailure(_) if lacks_credentials(&error) => {
                (Kind::Unsigned, String::new(), chain(&error))
            }
            SdkError::ConstructionFailure(_) => (Kind::Unsent, String::new(), chain(&error)),
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                (Kind::Unsent, String::new(), chain(&error))
            }
            _ => (Kind::Unknown, String::new(), chain(&error)),
        };
        Self { status, code, text, kind }
    }

    /// Whether a range of an object that is there begins behind its last byte.
    pub(super) fn is_beyond_the_end(&self) -> bool {
        self.status == Some(416) || self.code == "InvalidRange"
    }

    fn source(self) -> Arc<io::Error> {
        Arc::new(io::Error::other(self.text))
    }
}

/// Whether there are no credentials anywhere. That a place which has them does not answer is another matter: it may
/// pass.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(<dyn Error>::downcast_ref).any(|error| {
        matches!(error, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
    })
}

/// Error and causes in one line, each in its own words.
fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) bucket: &'a str,
    pub(super) path: &'a str,
}

impl Target<'_> {
    /// The outcome of a conditional write that did not succeed.
    pub(super) fn conditional(self, failure: Failure, mode: &PutMode) -> Result<PutOutcome, StoreError> {
        if failure.status == Some(412) || failure.code == "PreconditionFailed" {
            return Ok(PutOutcome::Conflict);
        }
        match self.error(failure) {
            // What was to be replaced is gone.
            StoreError::NotFound { .. } if matches!(mode, PutMode::Update(_)) => Ok(PutOutcome::Conflict),
            error => Err(error),
        }
    }

    /// What a failure means to the caller.
    pub(super) fn error(self, failure: Failure) -> StoreError {
        match failure.kind {
            Kind::Answer => self.answered(failure),
            Kind::Unsent => StoreError::Rejected { path: self.path(), source: failure.source() },
            Kind::Unsigned => StoreError::Denied { path: self.path(), source: failure.source() },
            Kind::Unknown => StoreError::Io { path: self.path(), source: failure.source() },
        }
    }

    fn answered(self, failure: Failure) -> StoreError {
        let path = self.path();
        match (failure.status.unwrap_or_default(), failure.code.as_str()) {
            (_, "NoSuchBucket") => StoreError::NoBucket { bucket: self.bucket.to_owned() },
            (_, "NoSuchUpload") => StoreError::UploadGone { path },
            (404, _) | (_, "NoSuchKey" | "NotFound") => StoreError::NotFound { path },
            // A server with folders: an object is where a folder should be, or the other way round.
            (_, "ObjectParentIsFile" | "ExistingObjectIsDirectory" | "KeyTooLongError") => {
                StoreError::Unstorable { path, source: failure.source() }
            }
            (409, _) | (_, "OperationAborted") => StoreError::Contended { path },
            (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded" | "InsufficientStorage") => {
                StoreError::DiskFull { path, source: failure.source() }
            }
            (429, _)
            | (_, "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests")
            | (_, "RequestLimitExceeded" | "ServiceUnavailable") => {
                StoreError::Throttled { path, source: failure.source() }
            }
            (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                StoreError::Denied { path, source: failure.source() }
            }
            // The connection broke while the body was on its way.
            (408, _) | (_, "RequestTimeout" | "IncompleteBody" | "BadDigest") => {
                StoreError::Io { path, source: failure.source() }
            }
            (300..=499 | 501, _) => StoreError::Rejected { path, source: failure.source() },
            _ => StoreError::Io { path, source: failure.source() },
        }
    }

    /// The error of a body that ended too early.
    pub(super) fn broken_off(self, error: &(dyn Error + 'static)) -> StoreError {
        StoreError::Io { path: self.path(), source: Arc::new(io::Error::other(chain(error))) }
    }

    /// The version in an answer.
    pub(super) fn etag(self, stated: Option<String>) -> Result<Etag, StoreError> {
        let missing = || {
            let source = Arc::new(io::Error::other("the answer has no ETag"));
            StoreError::Rejected { path: self.path(), source }
        };
        stated.map(Etag::new).ok_or_else(missing)
    }

    fn path(self) -> String {
        self.path.to_owned()
    }
}

#[cfg(test)]
mod tests;
