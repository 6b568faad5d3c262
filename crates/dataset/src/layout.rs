//! Which files a dataset's path stands for.
//!
//! A file is itself. A folder stands for the files of one split: directly in it, in its `data` folder (as the
//! Hugging Face Hub lays Parquet out: `data/train-00000-of-00013.parquet`), or in its only sub-folder. Where a
//! folder has several splits, `<folder>/<split>` names one, whether or not that is a folder of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::DatasetError;

/// The formats, in the order of preference: a folder may carry descriptions in JSON beside its Parquet files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    JsonLines,
    Json,
}

impl Format {
    const ALL: [Self; 3] = [Self::Parquet, Self::JsonLines, Self::Json];

    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The files of one dataset, sorted by name, and the format that all of them have.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    pub(crate) files: Vec<PathBuf>,
}

/// Finds the files that `path` stands for.
pub(crate) fn find(path: &Path) -> Result<Layout, DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => in_folder(path),
        Ok(_) => {
            let format = Format::of(path);
            let format = format.ok_or_else(|| DatasetError::UnknownFormat { path: path.to_owned() })?;
            Ok(Layout { format, files: vec![path.to_owned()] })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            named_split(path)?.ok_or_else(|| io(error))
        }
        Err(error) => Err(io(error)),
    }
}

fn in_folder(folder: &Path) -> Result<Layout, DatasetError> {
    if let Some(layout) = direct(folder)? {
        return one_split(folder, layout);
    }
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir()).collect::<Vec<_>>();
    let data = folders.iter().find(|path| path.file_name().is_some_and(|name| name == "data"));
    match (data, &folders[..]) {
        (Some(data), _) => in_folder(data),
        (None, [only]) => in_folder(only),
        (None, _) => {
            let filled = folders.iter().filter(|folder| direct(folder).is_ok_and(|layout| layout.is_some()));
            let names: BTreeSet<String> = filled.filter_map(|folder| name(folder)).collect();
            match names.first() {
                Some(first) => Err(several(folder, &names, folder.join(first))),
                None => Err(DatasetError::NoFiles { path: folder.to_owned(), hint: String::new() }),
            }
        }
    }
}

/// The data files that lie directly in a folder, of the best format that is there.
fn direct(folder: &Path) -> Result<Option<Layout>, DatasetError> {
    let entries = entries(folder)?;
    let of_format = |format| {
        let files = entries.iter().filter(|path| Format::of(path) == Some(format) && path.is_file());
        Layout { format, files: files.cloned().collect() }
    };
    Ok(Format::ALL.map(of_format).into_iter().find(|layout| !layout.files.is_empty()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let io = |source| DatasetError::Io { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(io)?;
    paths.retain(|path| name(path).is_some_and(|name| !name.starts_with('.')));
    paths.sort();
    Ok(paths)
}

fn one_split(folder: &Path, layout: Layout) -> Result<Layout, DatasetError> {
    let splits: BTreeSet<String> =
        layout.files.iter().filter_map(|file| numbered(file)).map(|part| part.split).collect();
    if splits.len() > 1 {
        let example = splits.first().map(|split| folder.join(split)).unwrap_or_default();
        return Err(several(folder, &splits, example));
    }
    complete(folder, &layout.files)?;
    Ok(layout)
}

fn several(folder: &Path, splits: &BTreeSet<String>, example: PathBuf) -> DatasetError {
    let splits = splits.iter().cloned().collect::<Vec<_>>().join(", ");
    DatasetError::SeveralSplits { path: folder.to_owned(), splits, example }
}

/// Reads `<folder>/<split>` where that is no folder: the split's files in the folder, or in its `data`.
fn named_split(path: &Path) -> Result<Option<Layout>, DatasetError> {
    let (Some(folder), Some(split)) = (path.parent(), name(path)) else {
        return Ok(None);
    };
    for folder in [folder.to_owned(), folder.join("data")] {
        let layout = if folder.is_dir() { direct(&folder)? } else { None };
        let Some(mut layout) = layout else { continue };
        layout.files.retain(|file| numbered(file).is_some_and(|part| part.split == split));
        if !layout.files.is_empty() {
            complete(&folder, &layout.files)?;
            return Ok(Some(layout));
        }
    }
    Ok(None)
}

/// A file name of a series: `train-00003-of-00013.parquet`.
struct Numbered {
    split: String,
    number: usize,
    total: usize,
    extension: String,
}

fn numbered(file: &Path) -> Option<Numbered> {
    let stem = file.file_stem()?.to_str()?;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (split, number) = rest.rsplit_once('-')?;
    Some(Numbered {
        split: split.to_owned(),
        number: number.parse().ok()?,
        total: total.parse().ok()?,
        extension: file.extension()?.to_str()?.to_owned(),
    })
}

/// A download that stopped half-way must not pass for a smaller dataset.
fn complete(folder: &Path, files: &[PathBuf]) -> Result<(), DatasetError> {
    let parts: Vec<Numbered> = files.iter().filter_map(|file| numbered(file)).collect();
    let Some(Numbered { split, total, extension, .. }) = parts.first() else {
        return Ok(());
    };
    match (0..*total).find(|number| parts.iter().all(|part| part.number != *number)) {
        Some(number) => Err(DatasetError::MissingFile {
            path: folder.to_owned(),
            missing: format!("{split}-{number:05}-of-{total:05}.{extension}"),
        }),
        None => Ok(()),
    }
}

fn name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], path: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let relative = |file: &PathBuf| file.strip_prefix(folder.path()).unwrap().display().to_string();
        let root = folder.path().display().to_string();
        find(&folder.path().join(path))
            .map(|layout| layout.files.iter().map(relative).collect())
            .map_err(|error| error.to_string().replace(&root, "R"))
    }

    #[test]
    fn a_path_stands_for_the_files_of_one_split() {
        let hub = [
            "README.md",
            "info.json",
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
        ];
        let lite = ["data/dev_10-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"];
        let both = Ok(vec![
            "data/train-00000-of-00002.parquet".to_owned(),
            "data/train-00001-of-00002.parquet".to_owned(),
        ]);
        assert_eq!(found(&hub[2..], ""), both);
        assert_eq!(found(&hub[2..], "data"), both);
        assert_eq!(found(&hub[2..], "train"), both);
        assert_eq!(found(&lite, "train"), Ok(vec!["data/train-00000-of-00001.parquet".to_owned()]));
        assert_eq!(found(&["train/0000.parquet"], ""), Ok(vec!["train/0000.parquet".to_owned()]));
        assert_eq!(
            found(&["b.jsonl", "a.jsonl", "state.json"], ""),
            Ok(vec!["a.jsonl".to_owned(), "b.jsonl".to_owned()])
        );
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_named() {
        let lite = ["data/dev_10-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"];
        let cases: [(&[&str], &str, &str); 6] = [
            (
                &lite,
                "",
                "R/data holds several splits (dev_10, train): add the one you mean to the path, as in R/data/dev_10",
            ),
            (&["test/a.jsonl", "train/a.jsonl"], "", "R/ holds several splits (test, train)"),
            (
                &["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
                "",
                "R/ is incomplete: train-00001-of-00003.parquet is missing",
            ),
            (&["notes.txt"], "", "R/ holds no .parquet, .jsonl or .json file"),
            (&["notes.txt"], "notes.txt", "R/notes.txt is neither a .parquet, .jsonl nor .json file"),
            (&["a.jsonl"], "b.jsonl", "cannot read R/b.jsonl"),
        ];
        for (files, path, message) in cases {
            let error = found(files, path).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
