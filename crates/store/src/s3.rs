//! A store in an S3 bucket.
//!
//! Conditions are the headers `If-None-Match: *` and `If-Match`, on plain puts and on completions of multipart
//! uploads alike. Servers exist that accept and ignore them; `probe` tells. Each call is one try: the SDK's own
//! retries are off, because ours know what a repeated conditional write means.

mod connect;
mod error;
mod upload;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use self::error::{Failure, Target};
use self::upload::Upload;
use crate::{
    ChangeTag, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, S3Options,
    StoreError,
};

/// A bucket as a store; an object's path is its key. Cloning is cheap.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.bucket)
    }
}

impl S3 {
    /// Finds region, endpoint and credentials, and makes the client. Nothing is asked of the bucket yet.
    pub async fn connect(bucket: &str, options: &S3Options) -> Result<Self, StoreError> {
        let client = connect::client(bucket, options).await?;
        Ok(Self { client, bucket: bucket.to_owned() })
    }

    fn target<'a>(&'a self, path: &'a str) -> Target<'a> {
        Target { bucket: &self.bucket, path }
    }
}

/// The values of `If-None-Match` and `If-Match` that mean `mode`.
fn conditions(mode: &PutMode) -> (Option<String>, Option<String>) {
    match mode {
        PutMode::Create => (Some("*".to_owned()), None),
        PutMode::Overwrite => (None, None),
        PutMode::Update(etag) => (None, Some(etag.as_str().to_owned())),
    }
}

#[async_trait]
impl ObjectStore for S3 {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let target = self.target(path.as_str());
        let (none_match, only_match) = conditions(&mode);
        let request = self.client.put_object().bucket(&self.bucket).key(path.as_str());
        let request = request.set_if_none_match(none_match).set_if_match(only_match);
        match request.body(ByteStream::from(bytes)).send().await {
            Ok(answer) => target.etag(answer.e_tag).map(PutOutcome::Stored),
            Err(error) => target.conditional(Failure::of(error), &mode),
        }
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        Ok(Box::new(Upload::create(self.clone(), path.clone()).await?))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        let target = self.target(path.as_str());
        let request = self.client.get_object().bucket(&self.bucket).key(path.as_str());
        let answer = request.send().await.map_err(|error| target.error(Failure::of(error)))?;
        let etag = target.etag(answer.e_tag)?;
        let bytes = answer.body.collect().await.map_err(|error| target.broken_off(&error))?.into_bytes();
        Ok(Object { bytes, etag })
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            // There is no way to write an empty range.
            return self.head(path).await.map(|_| Bytes::new());
        }
        let target = self.target(path.as_str());
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.client.get_object().bucket(&self.bucket).key(path.as_str()).range(wanted);
        match request.send().await.map_err(Failure::of) {
            Ok(answer) => {
                let body = answer.body.collect().await.map_err(|error| target.broken_off(&error))?;
                Ok(body.into_bytes())
            }
            Err(failure) if failure.is_beyond_the_end() => Ok(Bytes::new()),
            Err(failure) => Err(target.error(failure)),
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let target = self.target(path.as_str());
        let request = self.client.head_object().bucket(&self.bucket).key(path.as_str());
        let answer = request.send().await.map_err(|error| target.error(Failure::of(error)))?;
        let tag = ChangeTag::new(target.etag(answer.e_tag)?.as_str());
        Ok(ObjectMeta { path: path.clone(), size: size(answer.content_length), tag })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let target = self.target(prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let after = after.filter(|after| !after.is_empty()).map(str::to_owned);
        let mut pages = request.set_start_after(after).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| target.error(Failure::of(error)))?;
            found.extend(page.contents.into_iter().flatten().filter_map(listed));
        }
        // Not every server sorts by the bytes of the keys.
        found.sort();
        Ok(found)
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let target = self.target(&below);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&below).delimiter("/");
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| target.error(Failure::of(error)))?;
            let folders = page.common_prefixes.into_iter().flatten().filter_map(|common| common.prefix);
            found.extend(
                folders.filter_map(|text| Some(text.strip_prefix(&below)?.trim_end_matches('/').to_owned())),
            );
        }
        found.sort();
        Ok(found)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let target = self.target(path.as_str());
        let request = self.client.delete_object().bucket(&self.bucket).key(path.as_str());
        match request.send().await.map_err(|error| target.error(Failure::of(error))) {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An entry of a listing; `None` if its key is not one of ours.
fn listed(entry: aws_sdk_s3::types::Object) -> Option<ObjectMeta> {
    let path = ObjectPath::parse(entry.key?).ok()?;
    let size = size(entry.size);
    // Some servers list no ETag; then the time has to do.
    let by_time = || entry.last_modified.map_or_else(|| size.to_string(), |time| format!("{time}-{size}"));
    let tag = ChangeTag::new(entry.e_tag.unwrap_or_else(by_time));
    Some(ObjectMeta { path, size, tag })
}

fn size(stated: Option<i64>) -> u64 {
    stated.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}
