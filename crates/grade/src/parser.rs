//! The log parsers: one function from a log to a [`StatusMap`] for each way in which tests print their results.
//!
//! Names are those of SWE-bench's registry (57 of them in v5.0.2), because dataset rows carry them, and a few of this
//! project's own for the other harnesses. A new parser is one function in the file of its language and one line here.

mod c;
mod django;
mod error;
mod java;
mod javascript;
mod javascript_failures;
mod javascript_suites;
mod lines;
mod log_parser;
mod pytest;
mod python;
mod registry;
mod ruby;
mod tap;
#[cfg(test)]
mod tests;

pub use error::{ParseError, ParserError};
pub use log_parser::LogParser;
