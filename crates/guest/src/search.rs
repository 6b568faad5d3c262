//! Finds plain text in files.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memchr::memmem::Finder;
use thresher_guest::{Answer, Hit};

use crate::failure::{AtPath, Stop};
use crate::files::open_regular;
use crate::link::Link;
use crate::listing::sorted_names;

/// Larger files are not searched: they are data, and a whole file is held in memory.
const MOST_FILE: u64 = 64 << 20;

/// Bytes kept of a matching line.
const MOST_LINE: usize = 1000;

/// Lines kept of a file when it is the only one searched, and when it is one of many.
const MOST_LINES_ALONE: usize = 10_000;
const MOST_LINES_AMONG_MANY: usize = 50;

/// What to look for.
pub(crate) struct Query {
    pub(crate) needle: String,
    pub(crate) suffix: String,
    pub(crate) max_files: u64,
    pub(crate) skip_hidden: bool,
}

/// Searches a file, or the files below a folder in order of their paths, and sends the hits.
pub(crate) fn search(link: &mut Link, path: &str, query: &Query) -> Result<Answer, Stop> {
    let root = Path::new(path);
    let finder = Finder::new(&query.needle);
    if !fs::metadata(root).at(root)?.is_dir() {
        let (file, _) = open_regular(root)?;
        link.send_items(hit(&file, root, &finder, MOST_LINES_ALONE))?;
        return Ok(Answer::Done);
    }
    let mut hits = Vec::new();
    let mut open = children(root, query)?;
    while let Some(path) = open.pop() {
        link.breathe()?;
        if hits.len() as u64 >= query.max_files {
            break;
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => open.extend(children(&path, query).unwrap_or_default()),
            Ok(_) if path.as_os_str().as_bytes().ends_with(query.suffix.as_bytes()) => {
                // Links to files count; what cannot be read is passed over.
                let file = open_regular(&path).ok();
                hits.extend(file.and_then(|(file, _)| hit(&file, &path, &finder, MOST_LINES_AMONG_MANY)));
            }
            _ => {}
        }
    }
    link.send_items(hits)?;
    Ok(Answer::Done)
}

/// The entries of a folder, the first one last.
fn children(folder: &Path, query: &Query) -> Result<Vec<PathBuf>, thresher_guest::Failure> {
    let names = sorted_names(folder, query.skip_hidden)?;
    Ok(names.into_iter().rev().map(|name| folder.join(name)).collect())
}

/// Searches one file; `None` without a match.
fn hit(file: &File, path: &Path, finder: &Finder<'_>, most_lines: usize) -> Option<Hit> {
    let mut content = Vec::new();
    file.take(MOST_FILE + 1).read_to_end(&mut content).ok()?;
    if content.len() as u64 > MOST_FILE {
        return None;
    }
    let (lines, count) = matching_lines(&content, finder, most_lines);
    let path = Bytes::copy_from_slice(path.as_os_str().as_bytes());
    (count > 0).then_some(Hit { path, lines, count })
}

/// Returns the first matching lines with their numbers, and how many match in all.
fn matching_lines(content: &[u8], finder: &Finder<'_>, most: usize) -> (Vec<(u64, Bytes)>, u64) {
    let (mut lines, mut count) = (Vec::new(), 0);
    let (mut at, mut number) = (0, 1);
    while at < content.len() {
        let Some(found) = finder.find(&content[at..]).map(|found| at + found) else { break };
        let begin = memchr::memrchr(b'\n', &content[at..found]).map_or(at, |newline| at + newline + 1);
        let end = memchr::memchr(b'\n', &content[found..]).map_or(content.len(), |newline| found + newline);
        number += memchr::memchr_iter(b'\n', &content[at..begin]).count() as u64;
        count += 1;
        if lines.len() < most {
            let line = &content[begin..end];
            lines.push((number, Bytes::copy_from_slice(&line[..line.len().min(MOST_LINE)])));
        }
        (at, number) = (end + 1, number + 1);
    }
    (lines, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_counted_once() {
        for (content, needle, numbers, count) in [
            ("a\nb\nab", "a", &[1, 3][..], 2),
            ("aaa\n", "a", &[1], 1),
            ("\n\nx\n\n\nx", "x", &[3, 6], 2),
            ("", "x", &[], 0),
            ("b\n", "a", &[], 0),
            ("a\n\nb", "", &[1, 2, 3], 3),
            ("x\nx\nx\nx\n", "x", &[1, 2, 3], 4),
        ] {
            let (lines, all) = matching_lines(content.as_bytes(), &Finder::new(needle), 3);
            let got: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
            assert_eq!((&got[..], all), (numbers, count), "{content:?} and {needle:?}");
        }
        let long = "x".repeat(5000);
        let (lines, _) = matching_lines(long.as_bytes(), &Finder::new("x"), 3);
        assert_eq!(lines[0].1.len(), MOST_LINE);
    }
}
