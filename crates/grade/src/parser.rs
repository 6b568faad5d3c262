//! The log parsers: one function from a log to a [`StatusMap`] for each way in which tests print their results.
//!
//! Names are those of SWE-bench's registry (57 of them in v5.0.2), because dataset rows carry them, and a few of this
//! project's own for the other harnesses. A new parser is one function in the file of its language and one line here.

mod c;
mod django;
mod java;
mod javascript;
mod javascript_failures;
mod javascript_suites;
mod lines;
mod pytest;
mod python;
mod registry;
mod ruby;
mod tap;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::status::StatusMap;
use crate::swebench::Generation;

use registry::{Entry, Rule};

/// A log that makes its parser fail, where the original parser raises.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The log breaks an assumption of the parser.
    #[error("log cannot be parsed by {parser}: {problem}")]
    Malformed {
        /// The parser's name.
        parser: &'static str,
        /// What was found.
        problem: String,
    },
    /// The parser chooses by instance and was not told which one; see [`LogParser::for_instance`].
    #[error("{parser} depends on the instance, which is not known here")]
    NeedsInstance {
        /// The parser's name.
        parser: &'static str,
    },
}

/// A parser that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParserError {
    /// No parser has this name.
    #[error("unknown log parser {name:?}; did you mean {nearest:?}?")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The closest name that exists.
        nearest: &'static str,
    },
    /// The name is one of SWE-bench's registry, but its format is not implemented.
    #[error("log parser {name:?} is known but not supported: {reason}")]
    Unsupported {
        /// The name that was asked for.
        name: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The parser is defined for some instances only, and this is none of them.
    #[error("log parser {name:?} is not defined for instance {instance_id:?}")]
    UnknownInstance {
        /// The parser's name.
        name: &'static str,
        /// The instance that was asked for.
        instance_id: String,
    },
}

/// One named log parser. Cheap to copy; two are equal when their names are.
#[derive(Clone, Copy)]
pub struct LogParser(&'static Entry);

impl LogParser {
    /// Finds a parser by its name (`parse_log_django`, `tap`).
    ///
    /// # Errors
    /// [`ParserError::Unknown`] names the closest name; [`ParserError::Unsupported`] is a name of SWE-bench's registry
    /// whose format is not implemented.
    pub fn from_name(name: &str) -> Result<Self, ParserError> {
        let entry = registry::find(name).ok_or_else(|| unknown(name))?;
        match entry.rule {
            Rule::Unsupported(reason) => Err(ParserError::Unsupported { name: entry.name, reason }),
            _ => Ok(Self(entry)),
        }
    }

    /// Finds a parser by its name and binds those that choose by instance (jekyll, immutable-js) to `instance_id`.
    ///
    /// # Errors
    /// As [`LogParser::from_name`], and [`ParserError::UnknownInstance`] for an instance that the parser does not know.
    pub fn for_instance(name: &str, instance_id: &str) -> Result<Self, ParserError> {
        let parser = Self::from_name(name)?;
        let Rule::ByInstance(choose) = parser.0.rule else { return Ok(parser) };
        let number = instance_id.rsplit('-').next().unwrap_or_default();
        match choose(number) {
            Some(chosen) => Self::from_name(chosen),
            None => {
                Err(ParserError::UnknownInstance { name: parser.name(), instance_id: instance_id.to_owned() })
            }
        }
    }

    /// Finds the parser of a repository (`owner/name`, any case), for rows without a `log_parser` column: those of
    /// SWE-bench (test and dev splits) and of SWE-Gym.
    #[must_use]
    pub fn for_repo(repo: &str) -> Option<Self> {
        registry::of_repo(repo).and_then(registry::find).map(Self)
    }

    /// Lists the names of all parsers that can be had.
    pub fn names() -> impl Iterator<Item = &'static str> {
        registry::ENTRIES
            .iter()
            .filter(|entry| !matches!(entry.rule, Rule::Unsupported(_)))
            .map(|entry| entry.name)
    }

    /// Gives the name under which it is registered.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Reads the statuses out of a log, by the newest rules. The log's lines must end in LF.
    ///
    /// # Errors
    /// [`ParseError`] where the original parser raises. The log is written by code under test, so this is not a fault.
    pub fn parse(&self, log: &str) -> Result<StatusMap, ParseError> {
        self.parse_as(Generation::V5, log)
    }

    /// Reads the statuses out of a log, by the rules of a generation of SWE-bench.
    ///
    /// # Errors
    /// As [`LogParser::parse`].
    pub fn parse_as(&self, generation: Generation, log: &str) -> Result<StatusMap, ParseError> {
        let parser = self.0.name;
        match (self.0.rule, generation) {
            (Rule::Total(parse), _) | (Rule::Changed { v5: parse, .. }, Generation::V5) => Ok(parse(log)),
            (Rule::Changed { v4: parse, .. }, Generation::V4) => Ok(parse(log)),
            (Rule::Partial(parse), _) => {
                parse(log).map_err(|problem| ParseError::Malformed { parser, problem })
            }
            (Rule::ByInstance(_) | Rule::Unsupported(_), _) => Err(ParseError::NeedsInstance { parser }),
        }
    }
}

impl PartialEq for LogParser {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for LogParser {}

impl std::fmt::Debug for LogParser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogParser({})", self.name())
    }
}

fn unknown(name: &str) -> ParserError {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(candidate, name);
    let nearest = LogParser::names().min_by_key(distance).expect("the registry is not empty");
    ParserError::Unknown { name: name.to_owned(), nearest }
}
