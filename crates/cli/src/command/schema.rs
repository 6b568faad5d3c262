//! `thresher schema`: the JSON schema of job files.

use thresher_core::RunSpec;

use super::print;
use crate::exit::Failure;

/// Prints the schema.
pub(super) fn run() -> Result<i32, Failure> {
    print(&text())?;
    Ok(thresher_core::exit_code::OK)
}

/// The schema as it is kept in `jobs/schema.json`.
fn text() -> String {
    let schema = schemars::schema_for!(RunSpec);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema serializes");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kept_schema_is_the_current_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../jobs/schema.json");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == super::text(), "jobs/schema.json is old: write it again with `thresher schema`");
    }
}
