//! C-style quoting of paths, as git does it with `core.quotePath` on.

/// Quotes `prefix` + `path` if git would: for control characters, quotes, backslashes and bytes above ASCII.
pub(crate) fn quote(prefix: &str, path: &[u8]) -> Vec<u8> {
    let whole = [prefix.as_bytes(), path].concat();
    if whole.iter().all(|&byte| is_plain(byte)) {
        return whole;
    }
    let mut quoted = vec![b'"'];
    whole.iter().for_each(|&byte| push_escaped(&mut quoted, byte));
    quoted.push(b'"');
    quoted
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// The letters of git's escapes, at the control character each stands for.
const LETTERS: [(u8, u8); 9] = [
    (b'a', 7),
    (b'b', 8),
    (b't', 9),
    (b'n', 10),
    (b'v', 11),
    (b'f', 12),
    (b'r', 13),
    (b'"', b'"'),
    (b'\\', b'\\'),
];

fn push_escaped(quoted: &mut Vec<u8>, byte: u8) {
    if let Some((letter, _)) = LETTERS.iter().find(|(_, value)| *value == byte) {
        quoted.extend([b'\\', *letter]);
    } else if is_plain(byte) {
        quoted.push(byte);
    } else {
        quoted.extend(format!("\\{byte:03o}").bytes());
    }
}

/// Reads a quoted path at the start of `text`: its bytes, and what follows the closing quote. `None` if `text`
/// does not start with a well-formed quoted path.
pub(crate) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut path = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((path, rest)),
            b'\\' => {
                let (value, after) = escape(rest)?;
                path.push(value);
                rest = after;
            }
            _ => path.push(byte),
        }
    }
}

fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = text.split_first()?;
    if let Some((_, value)) = LETTERS.iter().find(|(letter, _)| *letter == first) {
        return Some((*value, rest));
    }
    let (digits, rest) = text.split_at_checked(3)?;
    let octal = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(octal, 8).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gits_and_reverses() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain name.py", "a/plain name.py"),
            (b"tab\there", r#""a/tab\there""#),
            (b"quote\"", r#""a/quote\"""#),
            (b"back\\slash", r#""a/back\\slash""#),
            ("grün".as_bytes(), r#""a/gr\303\274n""#),
            (b"bell\x07 del\x7f", r#""a/bell\a del\177""#),
            (b"\xff\x01", r#""a/\377\001""#),
        ];
        for (path, expected) in cases {
            let quoted = quote("a/", path);
            assert_eq!(String::from_utf8_lossy(&quoted), expected);
            if let Some((back, rest)) = unquote(&quoted) {
                assert_eq!((&back[2..], rest), (path, &b""[..]));
            }
        }
    }

    #[test]
    fn broken_quotes_are_refused() {
        for text in ["", "plain", "\"open", "\"\\", "\"\\9\"", "\"\\400\"", "\"\\12"] {
            assert_eq!(unquote(text.as_bytes()), None, "{text}");
        }
    }
}
