//! Just enough of the shell's syntax to tell commands from the text of here-documents.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex::Regex;

/// A line of a script and whether the shell would run it, as opposed to feed it to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Number of the line, from 1.
    pub(super) number: usize,
    /// The line without its end.
    pub(super) text: &'a str,
    /// Whether it belongs to a here-document or ends one.
    pub(super) is_data: bool,
}

/// Goes through the lines of a script, marking those of here-documents. Quotes that span lines are not understood: a
/// `<<` inside one would be taken for a here-document, which no known script has.
pub(super) fn lines(script: &str) -> impl Iterator<Item = Line<'_>> {
    let mut open: VecDeque<(String, bool)> = VecDeque::new();
    script.lines().enumerate().map(move |(index, text)| {
        let is_data = !open.is_empty();
        match open.front() {
            Some((word, strips_tabs)) if ends(text, word, *strips_tabs) => drop(open.pop_front()),
            Some(_) => {}
            None => open.extend(here_documents(text)),
        }
        Line { number: index + 1, text, is_data }
    })
}

fn ends(text: &str, word: &str, strips_tabs: bool) -> bool {
    (if strips_tabs { text.trim_start_matches('\t') } else { text }) == word
}

/// Finds the here-documents that a command opens: end word, and whether leading tabs of its lines are dropped.
fn here_documents(text: &str) -> Vec<(String, bool)> {
    // A here-string `<<<` is consumed by the first branch.
    static OPENING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"<<<|<<(?<dash>-?)\s*(?:'(?<single>[^']+)'|"(?<double>[^"]+)"|\\?(?<bare>\w+))"#)
            .expect("the pattern is a constant under test")
    });
    if text.trim_start().starts_with('#') {
        return Vec::new();
    }
    let word = |found: regex::Captures<'_>| {
        let word = ["single", "double", "bare"].into_iter().find_map(|name| found.name(name))?;
        Some((word.as_str().to_owned(), &found["dash"] == "-"))
    };
    OPENING.captures_iter(text).filter_map(word).collect()
}
