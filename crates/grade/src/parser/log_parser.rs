//! A parser by name, instance or repository.

use crate::status::StatusMap;
use crate::swebench::Generation;

use super::error::{ParseError, ParserError};
use super::registry::{self, Entry, Rule};

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
