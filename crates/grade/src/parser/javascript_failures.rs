//! JavaScript runners of which only the failures can be read; their rows are graded with `fail_only`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, StatusMap};

/// Parses Chart.js: `Chrome 1.2 (Linux) name FAILED`; the name keeps its trailing space.
pub(super) fn chart_js(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"(?m)Chrome\s[\d.]+[^\S\r\n]\(.+?\)[^\S\r\n](.*)FAILED$"));
    let log = without_ansi(log);
    LINE.captures_iter(&log).map(|found| (found[1].to_owned(), FAILED)).collect()
}

/// Parses marked: numbered failures at the start of a line.
pub(super) fn marked(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^\d+\)\s(.*)"));
    let found = log.split('\n').filter_map(|line| LINE.captures(line));
    found.map(|found| (py::strip(&found[1]).to_owned(), FAILED)).collect()
}

/// Parses p5.js: mocha's numbered failures, after printed data that looks like them is taken out.
pub(super) fn p5js(log: &str) -> StatusMap {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| py::regex(r"(?m)^\s*\d+\)"));
    let log = without_tag_blocks(without_json_blocks(&without_ansi(log)));
    let mut map = StatusMap::new();
    let mut from = 0;
    while let Some(number) = NUMBER.find_at(&log, from) {
        let Some(title) = title_after(&log[number.end()..]) else {
            from = number.end();
            continue;
        };
        from = number.end() + title.len() + 1;
        if indents_grow(title) {
            let names: Vec<&str> = title.split('\n').map(py::strip).collect();
            map.insert(names.join(":"), FAILED);
        }
    }
    map
}

/// Takes the text before the first colon, if it comes within 1,000 characters.
fn title_after(text: &str) -> Option<&str> {
    let title = text.split_once(':')?.0;
    (title.chars().count() <= 1000).then_some(title)
}

/// Tells whether each line of a title is indented deeper than the one before, the first at all.
fn indents_grow(title: &str) -> bool {
    let indents: Vec<usize> = std::iter::once(0).chain(title.split('\n').map(py::indent)).collect();
    indents.is_sorted_by(|before, after| before < after)
}

fn without_ansi(log: &str) -> Cow<'_, str> {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\x1b(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])"));
    ESCAPE.replace_all(log, "")
}

/// Drops objects and lists that a test printed: on one line, or from a line that ends in the opening bracket to the
/// line that is only the closing one.
fn without_json_blocks(log: &str) -> String {
    let (mut in_object, mut in_list) = (false, false);
    let mut kept = Vec::new();
    for line in log.split('\n') {
        let text = line.trim_end_matches(py::is_space);
        let on_one_line = |open: char, close: char| text.starts_with(open) && text.ends_with(close);
        if text.ends_with('{') {
            in_object = true;
        } else if text.ends_with('[') {
            in_list = true;
        } else if text == "}" && in_object {
            in_object = false;
        } else if text == "]" && in_list {
            in_list = false;
        } else if !in_object && !in_list && !on_one_line('{', '}') && !on_one_line('[', ']') {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// How many bytes [`without_tag_blocks`] may look at again and again: about a second's work, and a thousand times what
/// real logs need.
const MAX_EFFORT: usize = 1 << 32;

/// Drops `<tag>…</tag>` from the first opening tag to its nearest closing tag, again and again; opening tags inside
/// stay, so that nested blocks of the same tag go one by one. A log that is made to take long keeps the rest.
fn without_tag_blocks(mut log: String) -> String {
    static OPEN: LazyLock<Regex> = LazyLock::new(|| py::regex(r"<(\w+)>"));
    let (mut from, mut effort) = (0, 0);
    while let Some(found) = OPEN.captures_at(&log, from) {
        effort += log.len() - from;
        if effort > MAX_EFFORT {
            break;
        }
        let open = found.get_match();
        let (start, opening) = (open.start(), open.as_str().to_owned());
        let closing = format!("</{}>", &found[1]);
        let Some(length) = log[open.end()..].find(&closing) else {
            from = open.end();
            continue;
        };
        let end = open.end() + length + closing.len();
        let nested = log[start..end].matches(&opening).count() - 1;
        log.replace_range(start..end, &opening.repeat(nested));
        from = start;
    }
    log
}
