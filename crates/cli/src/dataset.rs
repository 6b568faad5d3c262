//! The dataset of a job: files on this machine, or files that were stored in a bucket and are brought here.

use std::path::Path;

use thresher_core::run_spec::DatasetSpec;
use thresher_core::{RunId, Sha256Hex, exit_code};
use thresher_dataset::Dataset;
use thresher_ledger::Ledger;

use crate::exit::{Failure, WithCode as _};
use crate::job::Job;
use crate::location::{Location, Patience};

/// Folder of datasets below the place that they are stored for.
const FOLDER: &str = "/data/";

/// Opens the job's dataset; `cache` keeps what is brought here.
pub(crate) async fn open(job: &Job, cache: &Path) -> Result<Dataset, Failure> {
    match Stored::parse(&job.spec.dataset.path)? {
        Some(stored) => stored.open(&job.spec.dataset, cache).await,
        None => Dataset::open(&job.spec.dataset, &job.base).code(exit_code::DATA),
    }
}

/// A dataset in a bucket, `s3://bucket/folder/data/<fingerprint>`, as `thresher submit --schedule` stores one.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    place: Location,
    fingerprint: Sha256Hex,
}

impl Stored {
    /// The dataset of that fingerprint that is stored for `place`.
    pub(crate) fn at(place: &Location, fingerprint: &Sha256Hex) -> Self {
        Self { place: place.clone(), fingerprint: fingerprint.clone() }
    }

    /// Reads a dataset's path; `None` if it names files on this machine.
    pub(crate) fn parse(path: &str) -> Result<Option<Self>, Failure> {
        if !path.contains("://") {
            return Ok(None);
        }
        let parts = path.trim_end_matches('/').rsplit_once(FOLDER);
        let Some((place, name)) = parts.filter(|(_, name)| is_fingerprint(name)) else {
            return Err(Failure::new(
                exit_code::DATA,
                anyhow::anyhow!("dataset.path: `{path}` is no stored dataset"),
            )
            .hint("one is s3://bucket/folder/data/<fingerprint>; other datasets are files on this machine"));
        };
        Ok(Some(Self { place: Location::parse(place)?, fingerprint: Sha256Hex::new(name) }))
    }

    /// Its URL, for a job file.
    pub(crate) fn url(&self) -> String {
        format!("{}{FOLDER}{}", self.place, self.fingerprint)
    }

    /// Opens it as `spec` says, except for its path.
    async fn open(&self, spec: &DatasetSpec, cache: &Path) -> Result<Dataset, Failure> {
        let folders = std::path::absolute(cache)?.join("datasets");
        std::fs::create_dir_all(&folders)?;
        let folder = folders.join(self.fingerprint.as_str());
        let (store, prefix) = self.place.store(Patience::Long).await?;
        let ledger = Ledger::open(store, &prefix, RunId::new("datasets"))?;
        if !ledger.fetch_data(&self.fingerprint, &folder).await? {
            return Err(Failure::new(
                exit_code::DATA,
                anyhow::anyhow!("there is no dataset at {}", self.url()),
            ));
        }
        let spec = DatasetSpec { path: folder.display().to_string(), ..spec.clone() };
        let dataset = Dataset::open(&spec, Path::new(".")).code(exit_code::DATA)?;
        let found = dataset.fingerprint().code(exit_code::DATA)?;
        if found != self.fingerprint {
            let folder = folder.display();
            return Err(Failure::new(
                exit_code::DATA,
                anyhow::anyhow!("{folder} is not {}: its fingerprint is {found}", self.url()),
            )
            .hint("delete that folder: it is fetched again"));
        }
        Ok(dataset)
    }
}

fn is_fingerprint(name: &str) -> bool {
    name.len() == 64 && name.chars().all(|letter| matches!(letter, '0'..='9' | 'a'..='f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_dataset_is_named_by_its_fingerprint() {
        let fingerprint = Sha256Hex::of(b"rows");
        let place = Location::parse("s3://bucket/campaigns/nightly").unwrap();
        let url = Stored::at(&place, &fingerprint).url();
        assert_eq!(url, format!("s3://bucket/campaigns/nightly/data/{fingerprint}"));
        assert_eq!(Stored::parse(&url).unwrap().unwrap().url(), url);
        assert!(Stored::parse("data/tasks.jsonl").unwrap().is_none());
        for wrong in ["s3://bucket/tasks.jsonl", "s3://bucket/data/12", "https://host/data.jsonl"] {
            let error = Stored::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
