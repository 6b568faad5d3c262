//! `search`: a text in a folder (matches per file) or in a file (matching lines).

use thresher_sandbox::{EntryKind, SandboxError, SearchHit, SearchQuery};

use super::{Used, clip, text};
use crate::agent::Episode;
use crate::agent::r2egym::call::Arguments;
use crate::workspace::join;

const TOOL: &str = "search";
/// More matching files than this are not listed.
const MAX_FILES: usize = 100;
/// Bytes shown.
const MAX_BYTES: usize = 20_000;

/// Searches.
pub(super) async fn call(
    episode: &mut Episode<'_>,
    arguments: &Arguments,
    suffix: &str,
) -> Result<Used, SandboxError> {
    let Some(needle) = text(arguments, "search_term").filter(|term| !term.is_empty()) else {
        return Ok(Used::error(TOOL, "parameter search_term is required"));
    };
    let asked = text(arguments, "path").unwrap_or(".");
    let path = match asked.trim_start_matches("./") {
        "" | "." => episode.workdir.clone(),
        relative => join(&episode.workdir, relative),
    };
    let is_file = match episode.sandbox.stat(&path).await? {
        None => return Ok(Used::error(TOOL, format!("path {asked:?} does not exist"))),
        Some((kind, _)) => kind == EntryKind::File,
    };
    let query = SearchQuery {
        path: path.clone(),
        needle: needle.to_owned(),
        suffix: if is_file { String::new() } else { suffix.to_owned() },
        max_files: MAX_FILES + 1,
        skip_hidden: true,
    };
    let hits = episode.sandbox.search(&query).await?;
    let shown = if is_file { lines(&hits, needle, asked) } else { files(&hits, needle, asked) };
    Ok(match shown {
        Ok(content) => {
            let (content, truncated_bytes) = clip(content, MAX_BYTES);
            Used { truncated_bytes, ..Used::shown(TOOL, content) }
        }
        Err(message) => Used::error(TOOL, message),
    })
}

fn lines(hits: &[SearchHit], needle: &str, path: &str) -> Result<String, String> {
    let Some(hit) = hits.first() else { return Ok(format!("No matches found for {needle:?} in {path}")) };
    let lines = hit.lines.iter().map(|(number, line)| format!("{number}:{line}")).collect::<Vec<_>>();
    let more = hit.count.saturating_sub(hit.lines.len() as u64);
    let note = if more > 0 { format!("\n[{more} more matching lines]") } else { String::new() };
    Ok(format!("Matches for {needle:?} in {path}:\n{}{note}", lines.join("\n")))
}

fn files(hits: &[SearchHit], needle: &str, path: &str) -> Result<String, String> {
    if hits.is_empty() {
        return Ok(format!("No matches found for {needle:?} in {path}"));
    }
    if hits.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files match {needle:?} in {path}; narrow the search"));
    }
    let total: u64 = hits.iter().map(|hit| hit.count).sum();
    let files = hits.iter().map(|hit| format!("{} ({} matches)", hit.path, hit.count)).collect::<Vec<_>>();
    Ok(format!("Found {total} matches for {needle:?} in {path}:\n{}", files.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(path: &str, count: u64) -> SearchHit {
        SearchHit { path: path.into(), lines: vec![(7, "a b".into())], count }
    }

    #[test]
    fn folders_show_counts_and_files_show_lines() {
        let two = [hit("/r/a", 1), hit("/r/b", 3)];
        assert_eq!(
            files(&two, "b", ".").unwrap(),
            "Found 4 matches for \"b\" in .:\n/r/a (1 matches)\n/r/b (3 matches)"
        );
        assert_eq!(
            lines(&[hit("/r/a", 2)], "b", "a").unwrap(),
            "Matches for \"b\" in a:\n7:a b\n[1 more matching lines]"
        );
        assert!(lines(&[], "b", "a").unwrap().starts_with("No matches"));
        let many: Vec<_> = (0..101).map(|at| hit(&at.to_string(), 1)).collect();
        assert!(files(&many, "b", ".").unwrap_err().contains("narrow the search"));
    }
}
