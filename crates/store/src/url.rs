//! Where a store is, as text.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{LocalDir, ObjectPath, ObjectStore, S3Options, StoreError};

/// The place of a store, with the prefix below which its objects are wanted.
///
/// `s3://bucket/some/prefix` is a bucket; `file:///some/folder` and any path are a local directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    place: Place,
    s3: S3Options,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    S3 { bucket: String, prefix: String },
}

/// Why a text is no place of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place of a store: {reason}")]
pub struct InvalidUrl {
    text: String,
    reason: String,
}

impl StoreUrl {
    /// Reads `text`; an error names the nearest valid form.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let place = parse_place(text).map_err(|reason| InvalidUrl { text: text.to_owned(), reason })?;
        Ok(Self { place, s3: S3Options::default() })
    }

    /// Sets how a bucket is reached; a local directory ignores it.
    #[must_use]
    pub fn with_s3(self, s3: S3Options) -> Self {
        Self { s3, ..self }
    }

    /// Whether this is a bucket, and not a local directory.
    pub fn is_s3(&self) -> bool {
        matches!(self.place, Place::S3 { .. })
    }

    /// Where all of the store's objects are: the bucket without the prefix, or the folder.
    pub fn bucket(&self) -> String {
        match &self.place {
            Place::Local(folder) => folder.display().to_string(),
            Place::S3 { bucket, .. } => format!("s3://{bucket}"),
        }
    }

    /// Makes the store and says the prefix of its objects: empty, or without slashes at its ends.
    ///
    /// Nothing is sent yet, except to find credentials' whereabouts. A bucket's store tries everything once:
    /// `Retrying` belongs around it.
    pub async fn open(&self) -> Result<(Arc<dyn ObjectStore>, String), StoreError> {
        match &self.place {
            Place::Local(folder) => Ok((Arc::new(LocalDir::new(folder)), String::new())),
            Place::S3 { bucket, prefix } => Ok((open_bucket(bucket, &self.s3).await?, prefix.clone())),
        }
    }
}

#[cfg(feature = "s3")]
async fn open_bucket(bucket: &str, options: &S3Options) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(Arc::new(crate::S3::connect(bucket, options).await?))
}

#[cfg(not(feature = "s3"))]
async fn open_bucket(bucket: &str, _options: &S3Options) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let source = Arc::new(std::io::Error::other("this program was built without S3"));
    Err(StoreError::Rejected { path: format!("s3://{bucket}"), source })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Local(folder) => write!(f, "{}", folder.display()),
            Place::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Place::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.is_empty() {
        return Err("it is empty; write a folder, or `s3://bucket/prefix`".to_owned());
    }
    let Some((scheme, rest)) = text.split_once("://") else { return parse_path(text) };
    match scheme {
        "s3" => parse_bucket(rest),
        "file" => parse_file(rest),
        _ if scheme.eq_ignore_ascii_case("s3") || scheme == "s3a" || scheme == "s3n" => {
            Err(format!("write `s3://{rest}`"))
        }
        "http" | "https" => Err("write `s3://bucket/prefix` and give the server as the endpoint".to_owned()),
        _ => Err(format!("`{scheme}://` is not known; write `s3://{rest}`, `file:///folder` or a folder")),
    }
}

/// A path as it is, unless it is a URL that misses a slash.
fn parse_path(text: &str) -> Result<Place, String> {
    for scheme in ["s3", "file"] {
        if let Some(rest) = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) {
            let slashes = if scheme == "file" { ":///" } else { "://" };
            return Err(format!("write `{scheme}{slashes}{}`", rest.trim_start_matches('/')));
        }
    }
    Ok(Place::Local(text.into()))
}

fn parse_file(rest: &str) -> Result<Place, String> {
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    if path.starts_with('/') {
        return Ok(Place::Local(path.into()));
    }
    Err(format!("write `file:///{path}`, or `{path}` for a folder below the current one"))
}

fn parse_bucket(rest: &str) -> Result<Place, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if !is_bucket(bucket) {
        return Err(format!(
            "`{bucket}` is not a bucket's name, which has 3 to 63 lower-case letters, digits, dots and hyphens; \
             write `s3://bucket/prefix`"
        ));
    }
    if prefix.contains(['?', '#']) {
        return Err("it has a query; settings such as the endpoint are not part of the URL".to_owned());
    }
    if !prefix.is_empty() && ObjectPath::parse(prefix).is_err() {
        return Err(format!(
            "the prefix `{prefix}` has an empty segment, or one that begins with a dot; write `s3://{bucket}/prefix`"
        ));
    }
    Ok(Place::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn is_bucket(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| plain(c) || c == '.' || c == '-';
    (3..=63).contains(&name.len())
        && name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_printed() {
        for (text, printed, is_s3) in [
            ("runs", "runs", false),
            ("/data/runs", "/data/runs", false),
            ("a:b", "a:b", false),
            ("file:///data/runs", "/data/runs", false),
            ("file://localhost/data", "/data", false),
            ("s3://bucket", "s3://bucket", true),
            ("s3://bucket/", "s3://bucket", true),
            ("s3://my.bucket-1/some/prefix/", "s3://my.bucket-1/some/prefix", true),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.is_s3()), (printed, is_s3), "{text}");
            let below = printed.strip_prefix(&url.bucket()).unwrap();
            assert!(below.is_empty() || is_s3 && below.starts_with('/'), "{text}: {below}");
        }
    }

    #[test]
    fn what_is_meant_is_named() {
        for (text, hint) in [
            ("", "write a folder"),
            ("s3:/bucket/a", "write `s3://bucket/a`"),
            ("s3:bucket", "write `s3://bucket`"),
            ("S3://bucket/a", "write `s3://bucket/a`"),
            ("s3a://bucket/a", "write `s3://bucket/a`"),
            ("gs://bucket/a", "`gs://` is not known; write `s3://bucket/a`"),
            ("https://host/bucket", "give the server as the endpoint"),
            ("file:/data", "write `file:///data`"),
            ("file://data", "write `file:///data`, or `data`"),
            ("s3://", "`` is not a bucket's name"),
            ("s3:///a", "`` is not a bucket's name"),
            ("s3://Bucket/a", "`Bucket` is not a bucket's name"),
            ("s3://key:secret@bucket/a", "is not a bucket's name"),
            ("s3://bucket//a", "empty segment"),
            ("s3://bucket/.a", "begins with a dot"),
            ("s3://bucket/a?region=x", "settings such as the endpoint"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_folder_opens_as_a_local_directory() {
        let root = tempfile::tempdir().unwrap();
        let (store, prefix) = StoreUrl::parse(root.path().to_str().unwrap()).unwrap().open().await.unwrap();
        assert_eq!(prefix, "");
        assert_eq!(store.list("", None).await.unwrap(), []);
    }
}
