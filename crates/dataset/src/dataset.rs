//! A dataset that is open: what it is called, how many rows it has, which tasks it gives.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use thresher_core::plan::{RefusedRow, TaskHandle};
use thresher_core::run_spec::{DatasetFamily, DatasetSpec, SelectSpec};
use thresher_core::{InstanceId, Sha256Hex, Task};

use crate::error::DatasetError;
use crate::family::{self, Identity, TaskOrigin};
use crate::filter::Filter;
use crate::nearest::nearest;
use crate::r2e::{self, R2eRecord};
use crate::row::Row;
use crate::select::{Candidate, Globs, Selection, select};
use crate::source::{Columns, Source};

/// A dataset's rows on disk. Opening it reads no row of Parquet files, and finds the rows of JSON files.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    family: DatasetFamily,
    source: Source,
    fingerprint: OnceLock<Sha256Hex>,
}

impl Dataset {
    /// Opens the dataset that `spec` names; a relative path counts from `base_dir`, the job file's folder.
    ///
    /// # Errors
    /// The files cannot be read, several splits are there, or the columns fit no family.
    pub fn open(spec: &DatasetSpec, base_dir: &Path) -> Result<Self, DatasetError> {
        let path = base_dir.join(&spec.path);
        let source = Source::open(&path)?;
        let name = spec.name.clone().unwrap_or_else(|| file_name(&path));
        let family = family::recognize(&name, spec.family, source.columns())?;
        Ok(Self { name, family, source, fingerprint: OnceLock::new() })
    }

    /// The name that goes into records: the job's, else that of the file or folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The family of its rows.
    pub fn family(&self) -> DatasetFamily {
        self.family
    }

    /// How many rows it has.
    pub fn len(&self) -> u64 {
        self.source.rows()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The files that it consists of: their paths below the dataset's folder, and where they are.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.source.files()
    }

    /// SHA-256 over the files' names and contents. The first call reads all of them, which takes about a second
    /// per gigabyte; later ones remember.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprint(&self) -> Result<Sha256Hex, DatasetError> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let computed = self.source.fingerprint()?;
        Ok(self.fingerprint.get_or_init(|| computed).clone())
    }

    /// Chooses rows: shuffle, start, only, filter, limit, in this order. A window that reaches beyond the end ends
    /// there. Rows that are chosen and cannot be run are refused by name; of several rows with one id, the first of
    /// the dataset stands.
    ///
    /// # Errors
    /// The files cannot be read, the filter or a glob is malformed or names an unknown column, or a glob matches no
    /// row of the whole dataset.
    pub fn plan(&self, spec: &SelectSpec) -> Result<Selection, DatasetError> {
        let filter =
            spec.filter.as_deref().map(|text| Filter::parse(text, self.source.columns())).transpose()?;
        let globs = Globs::new(&spec.only)?;
        let mut columns = columns([family::plan_columns(self.family)]);
        columns.extend(filter.iter().flat_map(Filter::columns).map(str::to_owned));
        let mut candidates = Vec::new();
        self.source.scan(&columns, |row| {
            candidates.push(self.candidate(row, filter.as_ref(), &globs));
            Ok(())
        })?;
        refuse_duplicates(&mut candidates);
        self.check_globs(&globs, &candidates)?;
        Ok(select(candidates, spec))
    }

    /// Finds a row by its id, whether or not it can be run: what grading a stored log needs.
    ///
    /// # Errors
    /// There is no such row, or it has no image.
    pub fn find(&self, instance_id: &InstanceId) -> Result<TaskHandle, DatasetError> {
        let (mut found, mut ids) = (None, Vec::new());
        self.source.scan(&columns([family::plan_columns(self.family)]), |row| {
            let id = family::instance_id(self.family, &row).ok();
            if found.is_none() && id.as_ref() == Some(instance_id) {
                found =
                    Some(family::identity(self.family, &row).map(|identity| handle(identity, row.number))?);
            }
            ids.extend(id);
            Ok(())
        })?;
        found.ok_or_else(|| self.unknown_instance(instance_id.as_str(), ids.iter()))
    }

    /// Decodes one row.
    ///
    /// # Errors
    /// The row is not the one that was planned, or a field cannot be decoded.
    pub fn load(&self, handle: &TaskHandle) -> Result<Task, DatasetError> {
        let (row, identity) = self.row(handle, family::load_columns(self.family))?;
        let Identity { instance_id, row_sha256, .. } = identity;
        let origin = TaskOrigin { dataset: self.name.clone(), instance_id, row_sha256 };
        family::task(self.family, &row, origin)
    }

    /// Decodes how an R2E-Gym row was made, for checks of the dataset itself; `None` for other families. The record
    /// holds the hidden tests and must not reach an agent.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn r2e_record(&self, handle: &TaskHandle) -> Result<Option<R2eRecord>, DatasetError> {
        if self.family != DatasetFamily::R2eGym {
            return Ok(None);
        }
        let (row, _) = self.row(handle, r2e::RECORD_COLUMNS)?;
        r2e::record(&row).map(Some)
    }

    /// Reads a planned row with `more` columns, and checks that it is the one.
    fn row(&self, handle: &TaskHandle, more: &[&str]) -> Result<(Row, Identity), DatasetError> {
        let wanted = columns([family::plan_columns(self.family), more]);
        let changed = |file: String| DatasetError::Changed {
            file,
            row: handle.row,
            instance_id: handle.instance_id.to_string(),
        };
        let row = self.source.read(handle.row, &wanted)?.ok_or_else(|| changed(self.name.clone()))?;
        let identity = family::identity(self.family, &row)?;
        if identity.instance_id != handle.instance_id || identity.row_sha256 != handle.row_sha256 {
            return Err(changed(row.file));
        }
        Ok((row, identity))
    }

    fn candidate(&self, mut row: Row, filter: Option<&Filter>, globs: &Globs) -> Candidate {
        let instance_id = family::instance_id(self.family, &row).ok();
        let task = family::identity(self.family, &row)
            .and_then(|identity| family::check(self.family, &row).map(|()| identity))
            .map(|identity| handle(identity, row.number));
        let image = task.as_ref().ok().map(|task| task.image.clone());
        for (name, value) in
            [("instance_id", instance_id.as_ref().map(ToString::to_string)), ("image", image)]
        {
            if let Some(value) = value.filter(|_| row.get(name).is_none()) {
                row.cells.insert(name.to_owned(), value.into());
            }
        }
        Candidate {
            chosen: filter.is_none_or(|filter| filter.matches(&row)) && globs.match_any(instance_id.as_ref()),
            row: row.number,
            instance_id,
            task: task.map_err(|error| reason(&error)),
        }
    }

    fn check_globs(&self, globs: &Globs, candidates: &[Candidate]) -> Result<(), DatasetError> {
        let ids = || candidates.iter().filter_map(|candidate| candidate.instance_id.as_ref());
        match globs.unmatched(ids()) {
            Some(pattern) => Err(self.unknown_instance(pattern, ids())),
            None => Ok(()),
        }
    }

    fn unknown_instance<'a>(&self, wanted: &str, ids: impl Iterator<Item = &'a InstanceId>) -> DatasetError {
        DatasetError::UnknownInstance {
            dataset: self.name.clone(),
            wanted: wanted.to_owned(),
            nearest: nearest(wanted, ids.map(InstanceId::as_str)),
        }
    }
}

fn handle(identity: Identity, row: u64) -> TaskHandle {
    let Identity { instance_id, image, row_sha256 } = identity;
    TaskHandle { instance_id, row_sha256, image, row }
}

/// A refusal already says which row.
fn reason(error: &DatasetError) -> String {
    match error {
        DatasetError::Field { field, problem, .. } => format!("field `{field}`: {problem}"),
        other => other.to_string(),
    }
}

fn refuse_duplicates(candidates: &mut [Candidate]) {
    let mut first: HashMap<InstanceId, u64> = HashMap::new();
    for candidate in candidates {
        let Ok(task) = &candidate.task else { continue };
        match first.get(&task.instance_id) {
            Some(row) => candidate.task = Err(format!("duplicate id: row {row} has it already")),
            None => drop(first.insert(task.instance_id.clone(), candidate.row)),
        }
    }
}

fn columns<const N: usize>(lists: [&[&str]; N]) -> Columns {
    lists.iter().flat_map(|list| list.iter()).map(|&name| name.to_owned()).collect()
}

fn file_name(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "dataset".to_owned())
}

impl From<Candidate> for RefusedRow {
    fn from(candidate: Candidate) -> Self {
        let Candidate { row, instance_id, task, .. } = candidate;
        Self { row, instance_id, reason: task.err().unwrap_or_default() }
    }
}
