//! Filter expressions over a row's columns.
//!
//! ```text
//! repo == "django/django" and not (difficulty in ["<15 min fix", ">4 hours"] or num_non_test_lines > 50)
//! ```
//!
//! | operator | holds where |
//! |---|---|
//! | `==` `!=` | the cell equals the value, or not; `null` is an absent cell |
//! | `<` `<=` `>` `>=` | numbers by size, texts by their bytes |
//! | `=~` | the glob matches the text, or an item of the list |
//! | `in [..]` | the cell equals one of the values |
//!
//! A number on the right also compares with a text that holds a number (SWE-bench's `version`). Where the kinds do
//! not fit, or the cell is absent, nothing but `!=` holds. Besides the table's columns there are `instance_id` and
//! `image` as planning derives them.

mod parse;

use std::cmp::Ordering;

use globset::GlobMatcher;
use serde_json::Value;

use crate::error::DatasetError;
use crate::row::Row;

/// An expression that has been read.
#[derive(Debug)]
pub(crate) struct Filter {
    root: Expression,
    columns: Vec<String>,
}

#[derive(Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare { column: String, test: Test },
}

#[derive(Debug)]
enum Test {
    Equal(Literal),
    NotEqual(Literal),
    Order(Order, Literal),
    Glob(GlobMatcher),
    In(Vec<Literal>),
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Number(f64),
    Truth(bool),
    Null,
}

impl Filter {
    /// Reads an expression over a table with these columns.
    pub(crate) fn parse(text: &str, columns: &[String]) -> Result<Self, DatasetError> {
        parse::filter(text, columns)
    }

    /// The columns that it looks at.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    pub(crate) fn matches(&self, row: &Row) -> bool {
        self.root.matches(row)
    }
}

impl Expression {
    fn matches(&self, row: &Row) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(row)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(row)),
            Self::Not(part) => !part.matches(row),
            Self::Compare { column, test } => test.holds(row.get(column)),
        }
    }
}

impl Test {
    fn holds(&self, cell: Option<&Value>) -> bool {
        match self {
            Self::Equal(literal) => literal.equals(cell),
            Self::NotEqual(literal) => !literal.equals(cell),
            Self::In(literals) => literals.iter().any(|literal| literal.equals(cell)),
            Self::Order(order, literal) => literal.compare(cell).is_some_and(|found| order.allows(found)),
            Self::Glob(glob) => cell.is_some_and(|cell| glob_matches(glob, cell)),
        }
    }
}

fn glob_matches(glob: &GlobMatcher, cell: &Value) -> bool {
    match cell {
        Value::String(text) => glob.is_match(text),
        Value::Array(items) => items.iter().any(|item| glob_matches(glob, item)),
        _ => false,
    }
}

impl Order {
    fn allows(self, found: Ordering) -> bool {
        match self {
            Self::Less => found.is_lt(),
            Self::AtMost => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::AtLeast => found.is_ge(),
        }
    }
}

impl Literal {
    fn equals(&self, cell: Option<&Value>) -> bool {
        match (self, cell) {
            (Self::Null, cell) => cell.is_none(),
            (Self::Truth(truth), Some(Value::Bool(cell))) => truth == cell,
            _ => self.compare(cell) == Some(Ordering::Equal),
        }
    }

    /// How the cell stands to the literal; `None` where they cannot be compared.
    fn compare(&self, cell: Option<&Value>) -> Option<Ordering> {
        match (self, cell?) {
            (Self::Text(text), Value::String(cell)) => Some(cell.as_str().cmp(text)),
            (Self::Number(number), Value::Number(cell)) => cell.as_f64()?.partial_cmp(number),
            (Self::Number(number), Value::String(cell)) => {
                cell.trim().parse::<f64>().ok()?.partial_cmp(number)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Row {
        let cells = json!({
            "repo": "django/django", "version": "4.10", "lines": 12, "easy": true, "note": null,
            "modified_files": ["a.py", "docs/b.rst"], "difficulty": "<15 min fix",
        });
        Row { file: "f".into(), number: 0, cells: cells.as_object().unwrap().clone() }
    }

    fn parse(text: &str) -> Result<Filter, DatasetError> {
        let columns: Vec<String> = row().cells.keys().cloned().collect();
        Filter::parse(text, &columns)
    }

    #[test]
    fn expressions_hold_or_not() {
        let cases = [
            (r#"repo == "django/django""#, true),
            (r#"repo == 'django/django' and difficulty != "<15 min fix""#, false),
            (r#"repo =~ "django/*""#, true),
            (r#"repo =~ "*go/djan*" and not repo =~ "flask""#, true),
            (r#"modified_files =~ "*.rst""#, true),
            (r#"modified_files == "a.py""#, false),
            ("lines > 11 and lines <= 12 and lines >= 12.0 and lines < 13", true),
            ("lines in [1, 2, 12]", true),
            ("lines not in [1, 2, 12]", false),
            ("lines == \"12\"", false),
            ("version > 4.05 and version < 4.2", true),
            ("version == 4.1", true),
            (r#"version > "4.2""#, false),
            ("easy == true", true),
            ("easy == 1 or easy == \"true\"", false),
            ("note == null", true),
            ("repo != null", true),
            ("note > 1 or note < 1 or note == \"\"", false),
            ("note != 1", true),
            (r#"lines == 1 or lines == 12 and repo == "x""#, false),
            (r#"(lines == 1 or lines == 12) and repo in ["django/django"]"#, true),
            ("not not lines == 12", true),
            ("not (lines == 12)", false),
            ("lines in []", false),
            ("lines>-1", true),
            (r#"repo == "a\"b\\""#, false),
            (r#"instance_id == null and image == null"#, true),
        ];
        for (text, holds) in cases {
            let filter = parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(filter.matches(&row()), holds, "{text}");
        }
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        let cases = [
            ("", "at character 1: a column's name is expected"),
            ("rep == 1", "at character 1: there is no column `rep`; did you mean `repo`?"),
            ("repo", "at character 5: an operator is expected after `repo`: == != < <= > >= =~ in"),
            ("repo = \"x\"", "at character 6: an operator is expected after `repo`"),
            ("repo ==", "at character 8: a value is expected: a quoted text, a number, true, false or null"),
            ("repo == django", "at character 9: a value is expected: a quoted text"),
            ("repo == \"x", "at character 9: the quote is not closed"),
            ("repo == \"x\" lines == 1", "at character 13: `and`, `or` or the end is expected"),
            ("(lines == 1", "at character 12: `)` is expected"),
            ("lines == 1)", "at character 11: `and`, `or` or the end is expected"),
            ("repo =~ 5", "at character 9: a quoted glob is expected"),
            ("repo =~ \"a[\"", "at character 9: `a[` is not a glob"),
            ("lines in 5", "at character 10: `[` is expected"),
            ("lines in [5", "at character 12: `,` or `]` is expected"),
            ("lines == 1.2.3", "at character 10: `1.2.3` is not a number"),
            ("repo < null", "at character 8: only texts and numbers have an order"),
            ("$", "at character 1: a column's name is expected"),
        ];
        for (text, message) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_a_crash() {
        let text = format!("{}lines == 1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&text).unwrap_err().to_string().contains("nested too deep"));
        let text = "not ".repeat(100_000) + "lines == 1";
        assert!(parse(&text).unwrap_err().to_string().contains("nested too deep"));
    }
}
