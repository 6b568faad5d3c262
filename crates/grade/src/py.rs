//! The few string operations whose exact meaning the parsers share with Python.
//!
//! `str::trim` and `\s` of Rust follow Unicode's White_Space; Python's `str.strip`, `str.split` and `\s` also count
//! the four information separators U+001C to U+001F, which do occur in the raw output of terminals and tests.

use regex::Regex;

/// Tells whether Python's `str.isspace` holds for `c`.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Strips what Python's `str.strip()` strips.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Counts the leading white space of a line, in characters.
pub(crate) fn indent(line: &str) -> usize {
    line.chars().take_while(|&c| is_space(c)).count()
}

/// Splits on runs of white space like Python's `str.split()`.
pub(crate) fn tokens(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|token| !token.is_empty()).collect()
}

/// Compiles a pattern of this crate, giving `\s` and `\S` Python's meaning.
pub(crate) fn regex(pattern: &str) -> Regex {
    let pattern = pattern.replace(r"\s", r"[\s\x1c-\x1f]").replace(r"\S", r"[^\s\x1c-\x1f]");
    Regex::new(&pattern).expect("the patterns of this crate are constants that its tests compile")
}

/// Turns CRLF and lone CR into LF, as Python's text mode does when it opens a log.
pub(crate) fn universal_newlines(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1c}\u{a0} a b\u{85}\u{1f}"), "a b");
        assert_eq!(tokens(" a\u{1d}b\u{2028}c  "), ["a", "b", "c"]);
        assert_eq!(tokens("\u{200b}a"), ["\u{200b}a"], "a zero-width space is no white space");
        assert_eq!(indent("\t \u{1e}x y"), 3);
        assert!(regex(r"^a\sb[^\S\n]\S$").is_match("a\u{1f}b c"));
        assert!(!regex(r"^[^\S\n]$").is_match("\n"));
    }

    #[test]
    fn newlines_become_line_feeds() {
        assert_eq!(universal_newlines("a\r\nb\rc\n\r\n"), "a\nb\nc\n\n");
        assert_eq!(universal_newlines("a\u{85}b\u{2028}c\u{c}"), "a\u{85}b\u{2028}c\u{c}");
    }
}
