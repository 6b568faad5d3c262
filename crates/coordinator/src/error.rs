//! What can go wrong between a run and its cluster.

use thresher_ledger::LedgerError;

/// A failure that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no way to the cluster: no kubeconfig, no such context, a wrong certificate.
    #[error("no way to the cluster{}: {reason}", context.as_ref().map(|name| format!(" of context `{name}`")).unwrap_or_default())]
    Access {
        /// The context that was asked for.
        context: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// The cluster refuses, for a reason that waiting does not change.
    #[error("the cluster refuses to {action}: {reason}{}", hint(*code))]
    Refused {
        /// What was tried, a fragment that fits after "refuses to".
        action: String,
        /// The HTTP status.
        code: u16,
        /// What it said.
        reason: String,
    },
    /// The cluster does not answer, or is not able to now.
    #[error("the cluster did not {action}: {source}")]
    Away {
        /// What was tried.
        action: String,
        /// What happened.
        source: kube::Error,
    },
    /// The cluster configuration or a template of it cannot be used.
    #[error("{0}")]
    Template(String),
    /// The run's store fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn hint(code: u16) -> &'static str {
    match code {
        403 => " (manifests/base/accounts.yaml grants what is needed)",
        404 => " (does the namespace exist? `kubectl apply -k manifests/base` makes it)",
        _ => "",
    }
}

impl ClusterError {
    /// Whether the same may succeed later, with nothing changed by anybody.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Ledger(LedgerError::Store(error)) => error.is_transient(),
            _ => false,
        }
    }

    pub(crate) fn of(action: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status)
                if (400..500).contains(&status.code) && status.code != 409 && status.code != 429 =>
            {
                Self::Refused { action: action.to_owned(), code: status.code, reason: status.message.clone() }
            }
            source => Self::Away { action: action.to_owned(), source },
        }
    }
}

/// The error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors say what their cause says.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
