//! The pattern language of ignore files.
//!
//! A match is a walk over all positions in the pattern at once, so its cost is at most pattern times text: the
//! patterns are written by whoever works in the sandbox.

/// A pattern ready for matching.
#[derive(Clone, Debug)]
pub(super) enum Glob {
    /// No special character.
    Literal(Vec<u8>),
    /// One star and then no special character, as in `*.pyc`.
    Suffix(Vec<u8>),
    /// Anything else.
    Tokens(Vec<Token>),
}

/// A position in a pattern.
#[derive(Clone, Debug)]
pub(super) enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: one byte but `/`.
    One,
    /// `*`: bytes but `/`.
    Star,
    /// `**/`: any number of whole folders.
    Folders,
    /// `**` at the end: everything that is left.
    Rest,
    /// `[...]`: one of a set of bytes, never `/`.
    Set(Box<[bool; 256]>),
}

impl Glob {
    /// Reads a pattern; `None` for one that can match nothing: an open bracket, a backslash at the end.
    pub(super) fn parse(pattern: &[u8]) -> Option<Self> {
        const SPECIAL: &[u8] = b"*?[\\";
        let is_plain = |bytes: &[u8]| !bytes.iter().any(|byte| SPECIAL.contains(byte));
        if is_plain(pattern) {
            return Some(Self::Literal(pattern.to_vec()));
        }
        match pattern.split_first() {
            Some((b'*', suffix)) if is_plain(suffix) && !suffix.contains(&b'/') => {
                Some(Self::Suffix(suffix.to_vec()))
            }
            _ => tokens(pattern).map(Self::Tokens),
        }
    }

    /// Whether the whole of `text`, a path or a name, matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Suffix(suffix) => {
                text.strip_suffix(&suffix[..]).is_some_and(|before| !before.contains(&b'/'))
            }
            Self::Tokens(tokens) => matches_tokens(tokens, text),
        }
    }
}

fn tokens(pattern: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        let (token, length) = match byte {
            b'?' => (Token::One, 1),
            b'*' => stars(pattern, at),
            b'[' => set(&pattern[at..])?,
            b'\\' => (Token::Byte(*pattern.get(at + 1)?), 2),
            other => (Token::Byte(other), 1),
        };
        tokens.push(token);
        at += length;
    }
    Some(tokens)
}

/// Two or more stars mean folders only where they stand for whole names; elsewhere they are one star.
fn stars(pattern: &[u8], at: usize) -> (Token, usize) {
    let length = pattern[at..].iter().take_while(|byte| **byte == b'*').count();
    let begins_name = at == 0 || pattern[at - 1] == b'/';
    match pattern.get(at + length) {
        Some(b'/') if length > 1 && begins_name => (Token::Folders, length + 1),
        None if length > 1 && begins_name => (Token::Rest, length),
        _ => (Token::Star, length),
    }
}

/// Reads a bracket expression at the beginning of `pattern`; returns its length too.
fn set(pattern: &[u8]) -> Option<(Token, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let mut set = Box::new([false; 256]);
    let first = at;
    loop {
        match *pattern.get(at)? {
            b']' if at > first => break,
            b'[' if pattern.get(at + 1) == Some(&b':') => at += named_class(&pattern[at..], &mut set)?,
            _ => at += range(&pattern[at..], &mut set)?,
        }
    }
    if negated {
        set.iter_mut().for_each(|member| *member = !*member);
    }
    set[usize::from(b'/')] = false;
    Some((Token::Set(set), at + 1))
}

/// Adds `a` or `a-z`; returns how long it is.
fn range(pattern: &[u8], set: &mut [bool; 256]) -> Option<usize> {
    let (low, low_length) = element(pattern)?;
    let rest = &pattern[low_length..];
    let (high, length) = match rest {
        [b'-', after, ..] if *after != b']' => {
            let (high, high_length) = element(&rest[1..])?;
            (high, low_length + 1 + high_length)
        }
        _ => (low, low_length),
    };
    (low..=high).for_each(|byte| set[usize::from(byte)] = true);
    Some(length)
}

fn element(pattern: &[u8]) -> Option<(u8, usize)> {
    match pattern {
        [b'\\', escaped, ..] => Some((*escaped, 2)),
        [b'\\'] | [] => None,
        [byte, ..] => Some((*byte, 1)),
    }
}

/// Adds `[:name:]`; returns how long it is.
fn named_class(pattern: &[u8], set: &mut [bool; 256]) -> Option<usize> {
    let close = pattern.windows(2).skip(2).position(|pair| pair == b":]")? + 2;
    let test: fn(&u8) -> bool = match &pattern[2..close] {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b'\t'..=b'\r' | b' '),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    (0..=u8::MAX).filter(test).for_each(|byte| set[usize::from(byte)] = true);
    Some(close + 2)
}

fn matches_tokens(tokens: &[Token], text: &[u8]) -> bool {
    let mut now = vec![false; tokens.len() + 1];
    let mut next = now.clone();
    arrive(tokens, &mut now, 0);
    for &byte in text {
        next.fill(false);
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
            match token {
                Token::Byte(expected) if *expected == byte => arrive(tokens, &mut next, at + 1),
                Token::One if byte != b'/' => arrive(tokens, &mut next, at + 1),
                Token::Set(set) if set[usize::from(byte)] => arrive(tokens, &mut next, at + 1),
                Token::Star if byte != b'/' => arrive(tokens, &mut next, at),
                Token::Rest => arrive(tokens, &mut next, at),
                Token::Folders if byte == b'/' => arrive(tokens, &mut next, at),
                // In the middle of a folder's name the rest of the pattern cannot begin.
                Token::Folders => next[at] = true,
                _ => {}
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    now[tokens.len()]
}

/// Marks position `at`, and those behind tokens that may match nothing.
fn arrive(tokens: &[Token], positions: &mut [bool], mut at: usize) {
    loop {
        positions[at] = true;
        match tokens.get(at) {
            Some(Token::Star | Token::Folders | Token::Rest) => at += 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, matching, other) in [
            ("a.c", &["a.c"][..], &["b.c", "a.cc", "xa.c"][..]),
            ("*.pyc", &["x.pyc", ".pyc"], &["x.py", "a/x.pyc"]),
            ("a*b", &["ab", "axxb"], &["a/b", "abc"]),
            ("a?b", &["axb"], &["ab", "a/b"]),
            ("**/b", &["b", "a/b", "a/c/b"], &["ab", "a/xb", "b/a"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb", "a/b/x"]),
            ("a/**b", &["a/b", "a/xb"], &["a/x/b"]),
            ("a/*/b", &["a/x/b"], &["a/b", "a/x/y/b"]),
            ("[a-c]x", &["ax", "bx", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax", "/x"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[[:digit:]_]*", &["7x", "_"], &["x7"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("\\*x", &["*x"], &["ax"]),
            ("[\\]]", &["]"], &["\\"]),
            (
                "*a*a*a*a*a*a*a*a*b",
                &["aaaaaaaab"],
                &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"],
            ),
        ] {
            let glob = Glob::parse(pattern.as_bytes()).unwrap();
            for text in matching {
                assert!(glob.matches(text.as_bytes()), "{pattern} and {text}");
            }
            for text in other {
                assert!(!glob.matches(text.as_bytes()), "{pattern} and not {text}");
            }
        }
        for never in ["[a", "a\\", "[[:nope:]]", "[a-"] {
            assert!(Glob::parse(never.as_bytes()).is_none(), "{never}");
        }
    }
}
