//! The lists of tests that a row carries, in every encoding that datasets use.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The two lists that decide a SWE-bench verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestLists {
    /// Tests that fail before the fix and must pass after it.
    pub fail_to_pass: Vec<String>,
    /// Tests that pass before the fix and must keep passing.
    pub pass_to_pass: Vec<String>,
}

/// A cell that holds no list of tests. It is never read as an empty list: a row without tests would resolve by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TestListError {
    /// The cell is neither a list nor text.
    #[error("test list is {found}, not a list or a text that holds one")]
    WrongType {
        /// The JSON type found.
        found: &'static str,
    },
    /// The list holds something that is not text.
    #[error("test list has an item at position {position} that is not a text")]
    NotText {
        /// Position of the item, from 0.
        position: usize,
    },
    /// The text is neither a JSON array nor the print of a Python list of texts.
    #[error("test list is neither JSON nor a Python list at character {position}")]
    NotAList {
        /// Where reading it as a Python list failed, in characters from 0.
        position: usize,
    },
}

/// Decodes a list of tests: a native list, a JSON array in a text, or a Python list as `repr` prints it, with single
/// or double quotes and escapes.
///
/// # Errors
/// Anything else, null and the empty text included.
pub fn decode_test_list(cell: &Value) -> Result<Vec<String>, TestListError> {
    match cell {
        Value::Array(items) => texts(items),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Array(items)) => texts(&items),
            _ => PythonList::new(text).read(),
        },
        Value::Null => Err(TestListError::WrongType { found: "null" }),
        Value::Bool(_) => Err(TestListError::WrongType { found: "a truth value" }),
        Value::Number(_) => Err(TestListError::WrongType { found: "a number" }),
        Value::Object(_) => Err(TestListError::WrongType { found: "an object" }),
    }
}

fn texts(items: &[Value]) -> Result<Vec<String>, TestListError> {
    let text = |(position, item): (usize, &Value)| {
        item.as_str().map(str::to_owned).ok_or(TestListError::NotText { position })
    };
    items.iter().enumerate().map(text).collect()
}

/// A reader of a Python list of string literals.
struct PythonList {
    chars: Vec<char>,
    at: usize,
}

impl PythonList {
    fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), at: 0 }
    }

    fn read(mut self) -> Result<Vec<String>, TestListError> {
        self.items()
            .filter(|_| self.at == self.chars.len())
            .ok_or(TestListError::NotAList { position: self.at })
    }

    /// Reads the whole list, or gives up where it stops being one.
    fn items(&mut self) -> Option<Vec<String>> {
        let mut items = Vec::new();
        self.skip_space();
        self.expect('[')?;
        self.skip_space();
        while self.expect(']').is_none() {
            items.push(self.literal()?);
            self.skip_space();
            if self.expect(',').is_none() && self.peek() != Some(']') {
                return None;
            }
            self.skip_space();
        }
        self.skip_space();
        Some(items)
    }

    fn literal(&mut self) -> Option<String> {
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"'))?;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next()? {
                c if c == quote => return Some(text),
                '\\' => text.extend(self.escape()?),
                '\n' => return None,
                c => text.push(c),
            }
        }
    }

    /// Reads what follows a backslash. An unknown escape stands for itself, backslash included, as in Python.
    fn escape(&mut self) -> Option<Vec<char>> {
        let escaped = match self.next()? {
            '\n' => return Some(Vec::new()),
            c @ ('\\' | '\'' | '"') => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.code_point(16, 2)?,
            'u' => self.code_point(16, 4)?,
            'U' => self.code_point(16, 8)?,
            '0'..='7' => {
                self.at -= 1;
                let digits = self.chars[self.at..].iter().take(3).take_while(|c| c.is_digit(8)).count();
                self.code_point(8, digits)?
            }
            c => return Some(vec!['\\', c]),
        };
        Some(vec![escaped])
    }

    fn code_point(&mut self, radix: u32, digits: usize) -> Option<char> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * radix + self.next()?.to_digit(radix)?;
        }
        char::from_u32(value)
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_encoding_is_read() {
        let cases = [
            (json!([]), vec![]),
            (json!(["a", "b c"]), vec!["a", "b c"]),
            (json!(r#"["t[a\n]", "\u00e9"]"#), vec!["t[a\n]", "é"]),
            (json!("[]"), vec![]),
            (json!(" [ 'a' , \"b's\", ] "), vec!["a", "b's"]),
            (json!(r#"['it\'s', 'say "hi"', 'a\\b']"#), vec!["it's", "say \"hi\"", "a\\b"]),
            (json!(r"['\x41\u00e9\U0001F600\101\0', '\d', '\t']"), vec!["Aé😀A\0", "\\d", "\t"]),
            (json!("['a',\n 'b']"), vec!["a", "b"]),
            (json!("['x\\\ny']"), vec!["xy"]),
        ];
        for (cell, expected) in cases {
            assert_eq!(decode_test_list(&cell).unwrap(), expected, "{cell}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let cases = [
            (json!(null), TestListError::WrongType { found: "null" }),
            (json!({}), TestListError::WrongType { found: "an object" }),
            (json!(["a", 1]), TestListError::NotText { position: 1 }),
            (json!("[\"a\", null]"), TestListError::NotText { position: 1 }),
            (json!(""), TestListError::NotAList { position: 0 }),
            (json!("['a' 'b']"), TestListError::NotAList { position: 5 }),
            (json!("['a', 1]"), TestListError::NotAList { position: 6 }),
            (json!("['a'"), TestListError::NotAList { position: 4 }),
            (json!("['a] "), TestListError::NotAList { position: 5 }),
            (json!("['a'] x"), TestListError::NotAList { position: 6 }),
            (json!(r"['\uD800']"), TestListError::NotAList { position: 8 }),
            (json!("['\\"), TestListError::NotAList { position: 3 }),
        ];
        for (cell, expected) in cases {
            assert_eq!(decode_test_list(&cell).unwrap_err(), expected, "{cell}");
        }
    }
}
