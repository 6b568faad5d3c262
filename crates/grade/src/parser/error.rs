//! Parsers that cannot be had, and logs that a parser cannot read.

use thiserror::Error;

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
    /// The parser chooses by instance and was not told which one; see [`LogParser::for_instance`](crate::LogParser::for_instance).
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
