//! How the command ends: a cause, a hint and a documented code.

use std::process::ExitCode;

use thresher_core::exit_code;
use thresher_ledger::LedgerError;
use thresher_store::StoreError;
use thresher_worker::WorkerError;

/// A failure that a person is told about.
#[derive(Debug)]
pub(crate) struct Failure {
    code: i32,
    cause: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure with one of [`exit_code`]'s codes. A store that is away is an outage, whatever it kept from being done.
    pub(crate) fn new(code: i32, cause: impl Into<anyhow::Error>) -> Self {
        let cause = cause.into();
        let code = if is_outage(&cause) { exit_code::OUTAGE } else { code };
        Self { code, cause, hint: None }
    }

    /// A wrong command line or job file.
    pub(crate) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(exit_code::USAGE, anyhow::anyhow!("{message}"))
    }

    /// Adds what the user can do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl std::fmt::Display for Failure {
    /// The cause, with what it is due to.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self::new(exit_code::FAILURE, cause)
    }
}

/// Gives an error one of the documented codes.
pub(crate) trait WithCode<T> {
    /// Turns an error into a failure with `code`.
    fn code(self, code: i32) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for Result<T, E> {
    fn code(self, code: i32) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(code, cause))
    }
}

/// Prints a failure, if there is one, and gives the process's exit code.
#[expect(clippy::print_stderr, reason = "the one place where the command speaks of its own failure")]
pub(crate) fn report(result: Result<i32, Failure>) -> ExitCode {
    let code = match result {
        Ok(code) => code,
        Err(failure) => {
            // A reader that went away (`thresher report | head`) is no failure to tell anybody about.
            if !is_broken_pipe(&failure.cause) {
                eprintln!("thresher: {:#}", failure.cause);
                if let Some(hint) = failure.hint {
                    eprintln!("hint: {hint}");
                }
            }
            failure.code
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn is_outage(cause: &anyhow::Error) -> bool {
    cause.chain().filter_map(store_error).any(StoreError::is_transient)
}

/// The store's error that `cause` is, also where another one speaks with its words.
fn store_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a StoreError> {
    let ledger = match cause.downcast_ref() {
        Some(WorkerError::Ledger(error)) => Some(error),
        _ => cause.downcast_ref(),
    };
    match ledger {
        Some(LedgerError::Store(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

fn is_broken_pipe(cause: &anyhow::Error) -> bool {
    cause
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_away_is_an_outage_whoever_says_so() {
        let away = || StoreError::Contended { path: "x".into() };
        let full = StoreError::NoBucket { bucket: "b".into() };
        let causes: [(anyhow::Error, i32); 4] = [
            (away().into(), exit_code::OUTAGE),
            (LedgerError::from(away()).into(), exit_code::OUTAGE),
            (
                anyhow::Error::from(WorkerError::from(LedgerError::from(away()))).context("x"),
                exit_code::OUTAGE,
            ),
            (LedgerError::from(full).into(), exit_code::DATA),
        ];
        for (cause, wanted) in causes {
            let text = format!("{cause:?}");
            assert_eq!(Failure::new(exit_code::DATA, cause).code, wanted, "{text}");
        }
    }
}
