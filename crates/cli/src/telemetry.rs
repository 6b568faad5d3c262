//! Logs go to stderr; results never do.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{GlobalArgs, LogFormat};

/// Installs the subscriber. A filter that cannot be parsed falls back to `warn` and says so.
pub(crate) fn init(args: &GlobalArgs) {
    let (filter, complaint) = match EnvFilter::try_new(&args.log_filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("warn"), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Compact => builder.compact().with_ansi(std::io::stderr().is_terminal()).init(),
    }
    if let Some(error) = complaint {
        tracing::warn!(%error, filter = %args.log_filter, "log filter not understood");
    }
}
