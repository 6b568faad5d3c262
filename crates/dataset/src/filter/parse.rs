//! Reading filter expressions: a recursive descent over the characters.

use crate::error::DatasetError;
use crate::family;
use crate::select::glob;

use super::{Expression, Filter, Literal, Order, Test};

/// Deepest nesting of parentheses and `not`: far more than a person writes, far less than the stack holds.
const DEEPEST: usize = 100;

pub(super) fn filter(text: &str, columns: &[String]) -> Result<Filter, DatasetError> {
    let mut parser = Parser { text, at: 0, depth: 0, columns, used: Vec::new() };
    let parsed = parser.any().and_then(|root| parser.end().map(|()| root));
    match parsed {
        Ok(root) => Ok(Filter { root, columns: parser.used }),
        Err(Mistake { at, problem }) => Err(DatasetError::Filter {
            expression: text.to_owned(),
            at: text[..at].chars().count() + 1,
            problem,
        }),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    depth: usize,
    columns: &'a [String],
    used: Vec<String>,
}

struct Mistake {
    at: usize,
    problem: String,
}

type Parsed<T> = Result<T, Mistake>;

/// Longer operators before their beginnings.
const OPERATORS: [&str; 7] = ["==", "!=", "<=", ">=", "=~", "<", ">"];

impl<'a> Parser<'a> {
    fn any(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.part()?];
        while self.take_word("and") {
            parts.push(self.part()?);
        }
        Ok(Expression::All(parts))
    }

    fn part(&mut self) -> Parsed<Expression> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.mistake("nested too deep"));
        }
        let part = if self.take_word("not") {
            Expression::Not(Box::new(self.part()?))
        } else if self.take("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(part)
    }

    fn comparison(&mut self) -> Parsed<Expression> {
        let column = self.column()?;
        if self.take_word("in") {
            let test = Test::In(self.list()?);
            return Ok(Expression::Compare { column, test });
        }
        if self.take_word("not") {
            self.expect_word("in")?;
            let test = Test::In(self.list()?);
            return Ok(Expression::Not(Box::new(Expression::Compare { column, test })));
        }
        let operator = OPERATORS.into_iter().find(|operator| self.take(operator));
        let Some(operator) = operator else {
            return Err(
                self.mistake(format!("an operator is expected after `{column}`: == != < <= > >= =~ in"))
            );
        };
        Ok(Expression::Compare { column, test: self.test(operator)? })
    }

    fn column(&mut self) -> Parsed<String> {
        self.skip_blanks();
        let start = self.at;
        let name = self.word();
        if name.is_empty() || name.starts_with(|letter: char| letter.is_ascii_digit()) {
            return Err(self.mistake("a column's name is expected"));
        }
        if !self.columns.iter().any(|column| column == name) && !family::derived_column(name) {
            return Err(Mistake { at: start, problem: family::unknown_column(name, self.columns) });
        }
        self.at += name.len();
        self.used.push(name.to_owned());
        Ok(name.to_owned())
    }

    fn test(&mut self, operator: &str) -> Parsed<Test> {
        self.skip_blanks();
        let start = self.at;
        let literal = match operator {
            "=~" => return self.glob(),
            _ => self.literal()?,
        };
        let order = match operator {
            "==" => return Ok(Test::Equal(literal)),
            "!=" => return Ok(Test::NotEqual(literal)),
            "<" => Order::Less,
            "<=" => Order::AtMost,
            ">" => Order::Greater,
            _ => Order::AtLeast,
        };
        match literal {
            Literal::Text(_) | Literal::Number(_) => Ok(Test::Order(order, literal)),
            Literal::Truth(_) | Literal::Null => {
                Err(Mistake { at: start, problem: "only texts and numbers have an order".to_owned() })
            }
        }
    }

    fn glob(&mut self) -> Parsed<Test> {
        let start = self.at;
        if !self.rest().starts_with(['"', '\'']) {
            return Err(self.mistake("a quoted glob is expected"));
        }
        let pattern = self.quoted()?;
        glob(&pattern).map(Test::Glob).map_err(|error| Mistake { at: start, problem: error.to_string() })
    }

    fn list(&mut self) -> Parsed<Vec<Literal>> {
        self.expect("[")?;
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(items);
        }
        loop {
            items.push(self.literal()?);
            if self.take("]") {
                return Ok(items);
            }
            if !self.take(",") {
                return Err(self.mistake("`,` or `]` is expected"));
            }
        }
    }

    fn literal(&mut self) -> Parsed<Literal> {
        self.skip_blanks();
        if self.rest().starts_with(['"', '\'']) {
            return self.quoted().map(Literal::Text);
        }
        let words =
            [("true", Literal::Truth(true)), ("false", Literal::Truth(false)), ("null", Literal::Null)];
        for (word, literal) in words {
            if self.take_word(word) {
                return Ok(literal);
            }
        }
        self.number()
    }

    fn number(&mut self) -> Parsed<Literal> {
        let rest = self.rest();
        let part_of_number =
            |letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-' | '+' | 'e' | 'E');
        let end = rest.find(|letter| !part_of_number(letter)).unwrap_or(rest.len());
        let digits = &rest[..end];
        if !digits.contains(|letter: char| letter.is_ascii_digit()) {
            return Err(self.mistake("a value is expected: a quoted text, a number, true, false or null"));
        }
        let number = digits.parse().map_err(|_| self.mistake(format!("`{digits}` is not a number")))?;
        self.at += end;
        Ok(Literal::Number(number))
    }

    /// Reads a text in either kind of quotes; a backslash takes the next character as it is.
    fn quoted(&mut self) -> Parsed<String> {
        let mut letters = self.rest().char_indices();
        let quote = letters.next().map(|(_, letter)| letter);
        let mut text = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
                letter if Some(letter) == quote => {
                    self.at += at + letter.len_utf8();
                    return Ok(text);
                }
                letter => text.push(letter),
            }
        }
        Err(self.mistake("the quote is not closed"))
    }

    fn end(&mut self) -> Parsed<()> {
        self.skip_blanks();
        if self.rest().is_empty() { Ok(()) } else { Err(self.mistake("`and`, `or` or the end is expected")) }
    }

    fn expect(&mut self, mark: &str) -> Parsed<()> {
        if self.take(mark) { Ok(()) } else { Err(self.mistake(format!("`{mark}` is expected"))) }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.mistake(format!("`{word}` is expected"))) }
    }

    fn take(&mut self, mark: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(mark);
        self.at += if found { mark.len() } else { 0 };
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let found = self.word() == word;
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// The word that comes next, not taken.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn mistake(&self, problem: impl Into<String>) -> Mistake {
        Mistake { at: self.at, problem: problem.into() }
    }
}
