//! Multipart uploads.

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::error::Failure;
use super::{S3, conditions};
use crate::{Multipart, ObjectPath, PutMode, PutOutcome, StoreError};

/// An upload that the server knows by an id.
pub(super) struct Upload {
    store: S3,
    path: ObjectPath,
    /// `None` once the upload is over.
    id: Option<String>,
    parts: Vec<CompletedPart>,
}

impl Upload {
    pub(super) async fn create(store: S3, path: ObjectPath) -> Result<Self, StoreError> {
        let request = store.client.create_multipart_upload().bucket(&store.bucket).key(path.as_str());
        let sent = request.send().await;
        let answer = sent.map_err(|error| store.target(path.as_str()).error(Failure::of(error)))?;
        Ok(Self { id: answer.upload_id, parts: Vec::new(), store, path })
    }

    fn id(&self) -> Result<String, StoreError> {
        self.id.clone().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })
    }

    /// Frees the parts. Best effort: what stays is removed by the bucket's rule for unfinished uploads.
    async fn free(&mut self) {
        let Some(id) = self.id.take() else { return };
        let request = self.store.client.abort_multipart_upload().bucket(&self.store.bucket);
        if let Err(error) = request.key(self.path.as_str()).upload_id(id).send().await {
            let error = self.store.target(self.path.as_str()).error(Failure::of(error));
            tracing::debug!(path = %self.path, %error, "an upload could not be aborted");
        }
    }
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let target = self.store.target(self.path.as_str());
        let number = i32::try_from(self.parts.len() + 1).expect("the server allows 10,000 parts");
        let request = self.store.client.upload_part().bucket(&self.store.bucket).key(self.path.as_str());
        let request = request.upload_id(self.id()?).part_number(number).body(ByteStream::from(bytes));
        let answer = request.send().await.map_err(|error| target.error(Failure::of(error)))?;
        let etag = target.etag(answer.e_tag)?;
        self.parts.push(CompletedPart::builder().part_number(number).e_tag(etag.as_str()).build());
        Ok(())
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        if self.parts.is_empty() {
            // An upload without parts cannot be completed, but an empty object can be meant.
            self.part(Bytes::new()).await?;
        }
        let (none_match, only_match) = conditions(&mode);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let request = self.store.client.complete_multipart_upload().bucket(&self.store.bucket);
        let request = request.key(self.path.as_str()).upload_id(self.id()?).multipart_upload(parts);
        let sent = request.set_if_none_match(none_match).set_if_match(only_match).send().await;
        let target = self.store.target(self.path.as_str());
        let outcome = match sent {
            Ok(answer) => PutOutcome::Stored(target.etag(answer.e_tag)?),
            Err(error) => target.conditional(Failure::of(error), &mode)?,
        };
        match outcome {
            PutOutcome::Stored(_) => self.id = None,
            PutOutcome::Conflict => self.free().await,
        }
        Ok(outcome)
    }

    async fn abort(mut self: Box<Self>) {
        self.free().await;
    }
}
