//! The columns as a document for people who read the tables.

use std::fmt::Write as _;

use super::Table;
use super::column::{Column, Kind, Nulls};
use super::plan_rows;

/// Markdown with every column of every table: what `SCHEMA.md` holds.
pub fn document() -> String {
    let mut text = String::from(
        "# Tables of a run\n\n\
         Parquet, zstd. Text is UTF-8. Every field has a Parquet field id, which is never given twice. Types are \
         Arrow's; `!` marks columns that are never null. `faults` has the columns of `rollouts`.\n",
    );
    for (table, about) in ABOUT {
        let sorted = table.sorted_by().join("`, `");
        section(&mut text, table.name(), about, &format!("Sorted by `{sorted}` within a file."));
        rows(&mut text, table.columns());
    }
    section(&mut text, "plan", "One row per planned rollout: `plan/<n>.parquet`.", "In the order of work.");
    rows(&mut text, plan_rows::COLUMNS);
    text
}

const ABOUT: [(Table, &str); 3] = [
    (
        Table::Rollouts,
        "One row per rollout: its result, or its last fault if it had none when the run was sealed. \
         `reward` is null on a fault and only then.",
    ),
    (Table::Steps, "One row per turn of the rollouts in `rollouts`."),
    (
        Table::TestResults,
        "One row per test of a verdict. A test that was expected and not seen is `missing`.",
    ),
];

fn section(text: &mut String, name: &str, about: &str, order: &str) {
    write!(text, "\n## `{name}`\n\n{about} {order}\n\n| id | column | type | meaning |\n|---|---|---|---|\n")
        .expect("writing to a String cannot fail");
}

fn rows<R>(text: &mut String, columns: &[Column<R>]) {
    for column in columns {
        let never_null = if column.nulls == Nulls::Never { "!" } else { "" };
        row(text, column.id, column.name, &format!("{}{never_null}", type_name(column.kind)), column.doc);
        if let Kind::Structs(_, children) = column.kind {
            for child in children {
                let name = format!("{}[].{}", column.name, child.name);
                row(text, child.id, &name, type_name(child.kind), child.doc);
            }
        }
    }
}

fn row(text: &mut String, id: i32, name: &str, type_name: &str, doc: &str) {
    writeln!(text, "| {id} | `{name}` | {type_name} | {doc} |").expect("writing to a String cannot fail");
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Repeated | Kind::Wide => "string",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Float32 => "float32",
        Kind::Float64 => "float64",
        Kind::Bool => "bool",
        Kind::Timestamp => "timestamp[us, UTC]",
        Kind::Binary => "binary",
        Kind::Texts(_) => "list<string>",
        Kind::Structs(..) => "list<struct>",
    }
}
