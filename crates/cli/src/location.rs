//! Where a run is kept: a local directory, or a prefix of a bucket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thresher_core::{RunId, exit_code};
use thresher_ledger::{Ledger, LedgerError};
use thresher_store::{
    Limited, Limits, LocalDir, ObjectStore, ProbeError, RetryPolicy, Retrying, StoreUrl, probe,
};

use crate::exit::{Failure, WithCode as _};
use crate::run_dir;

/// The place of a run.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    /// A directory.
    Dir(PathBuf),
    /// A bucket and a prefix in it.
    Bucket(StoreUrl),
}

/// For how long a store that does not answer is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A person waits for the answer.
    Short,
    /// Paid work waits to be stored.
    Long,
}

impl Location {
    /// Reads what the command line names a run by.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if !text.contains("://") {
            return Ok(Self::Dir(PathBuf::from(text)));
        }
        let url = StoreUrl::parse(text).code(exit_code::USAGE)?;
        if url.is_s3() {
            return Ok(Self::Bucket(url));
        }
        Ok(Self::Dir(PathBuf::from(text.trim_start_matches("file://"))))
    }

    /// Where a run goes that was not told where.
    pub(crate) fn or_default(text: Option<&str>, job: Option<&str>) -> Result<Self, Failure> {
        text.map_or_else(|| Ok(Self::Dir(run_dir::default_for(job))), Self::parse)
    }

    /// The directory, if it is one.
    pub(crate) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Dir(dir) => Some(dir),
            Self::Bucket(_) => None,
        }
    }

    /// Opens the ledger of a run that is to be written. The run's id is the last part of its place. A bucket is
    /// probed first: one that does not keep its promises would lose or double results.
    pub(crate) async fn open(&self) -> Result<Ledger, Failure> {
        let (store, prefix) = self.store(Patience::Long).await?;
        let run = RunId::new(self.name()?);
        if let Self::Bucket(url) = self {
            let nonce = format!("{:016x}", rand::random::<u64>());
            probe(&*store, &prefix, &nonce).await.map_err(|error| refused(url, error))?;
        }
        Ok(Ledger::open(store, &prefix, run)?)
    }

    /// Opens the ledger of a run that is there.
    pub(crate) async fn find(&self, patience: Patience) -> Result<Ledger, Failure> {
        if let Self::Dir(dir) = self
            && !dir.is_dir()
        {
            return Err(Failure::usage(format!("no run directory {}", dir.display())).hint(
                "`thresher run` and `thresher plan` print where a run is; the default is runs/<job name>",
            ));
        }
        let (store, prefix) = self.store(patience).await?;
        Ledger::find(store, &prefix).await.map_err(|error| match &error {
            LedgerError::NoRun { .. } => Failure::usage(format!("there is no run at {self}")).hint(format!(
                "`thresher plan JOB.yaml -o {self}` plans one, `thresher runs` lists those that are there"
            )),
            LedgerError::OtherProtocol { .. } | LedgerError::Newer { .. } => {
                Failure::new(exit_code::CONFLICT, error)
            }
            LedgerError::Store(cause) if !cause.is_not_found() => Failure::new(exit_code::UNAVAILABLE, error),
            _ => Failure::new(exit_code::USAGE, error),
        })
    }

    /// Opens the store, and says the prefix of the run in it.
    pub(crate) async fn store(&self, patience: Patience) -> Result<(Arc<dyn ObjectStore>, String), Failure> {
        match self {
            Self::Dir(dir) => Ok((Arc::new(LocalDir::new(std::path::absolute(dir)?)), String::new())),
            Self::Bucket(url) => {
                let (store, prefix) = url.open().await.code(exit_code::UNAVAILABLE)?;
                let store: Arc<dyn ObjectStore> = Arc::new(Limited::new(store, Limits::default()));
                Ok((Arc::new(Retrying::new(store, patience.policy(), rand::random())), prefix))
            }
        }
    }

    /// The place of a run whose prefix in this place's store is known.
    pub(crate) fn at(&self, prefix: &str) -> String {
        match self {
            _ if prefix.is_empty() => self.to_string(),
            Self::Dir(dir) => dir.join(prefix).display().to_string(),
            Self::Bucket(url) => format!("{}/{prefix}", url.bucket()),
        }
    }

    fn name(&self) -> Result<String, Failure> {
        let text = match self {
            Self::Dir(dir) => std::path::absolute(dir)?.display().to_string(),
            Self::Bucket(url) => url.to_string(),
        };
        let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let names_bucket =
            matches!(self, Self::Bucket(_)) && text.trim_end_matches('/').matches('/').count() < 3;
        if names_bucket {
            return Err(Failure::usage(format!("`{text}` names a bucket and no run in it"))
                .hint(format!("for example {}/runs/my-run", text.trim_end_matches('/'))));
        }
        Ok(if name.is_empty() { "run".to_owned() } else { name })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(dir) => dir.display().fmt(f),
            Self::Bucket(url) => url.fmt(f),
        }
    }
}

impl Patience {
    fn policy(self) -> RetryPolicy {
        let seconds = match self {
            Self::Short => 15,
            Self::Long => 30 * 60,
        };
        RetryPolicy {
            give_up_after: Duration::from_secs(seconds),
            wait_for_room: self == Self::Long,
            ..RetryPolicy::default()
        }
    }
}

fn refused(url: &StoreUrl, error: ProbeError) -> Failure {
    let failure = Failure::new(
        exit_code::UNAVAILABLE,
        anyhow::Error::new(error).context(format!("{url} cannot be used")),
    );
    failure.hint("the bucket must exist, and AWS_ENDPOINT_URL, AWS_REGION and the usual AWS credentials say how to reach it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_a_path_or_a_url() {
        let name = |text: &str| Location::parse(text).unwrap().name();
        assert_eq!(name("runs/a").unwrap(), "a");
        assert_eq!(name("/data/runs/b/").unwrap(), "b");
        assert_eq!(name("s3://bucket/p/runs/c").unwrap(), "c");
        assert!(Location::parse("file:///data/d").unwrap().dir().is_some());
        let error = format!("{:?}", name("s3://bucket").unwrap_err());
        assert!(error.contains("s3://bucket/runs/my-run"), "{error}");
        assert!(Location::parse("s4://bucket/x").is_err());
    }
}
