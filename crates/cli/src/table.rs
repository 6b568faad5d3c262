//! Tables on stdout.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use thresher_core::ImageCounts;

/// A table with a header, borderless, as wide as the terminal allows.
pub(crate) fn new<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// Milliseconds in a unit that reads well.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Bytes in a unit that reads well.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}

/// What became of images, in a few words; `None` where there is nothing to say.
pub(crate) fn images(counts: &ImageCounts) -> Option<String> {
    if counts.is_empty() {
        return None;
    }
    let ImageCounts { hits, pulls, pulled_bytes, evictions, freed_bytes } = *counts;
    let removed = match evictions {
        0 => String::new(),
        _ => format!(", {} removed to make room ({} freed)", count(evictions), bytes(freed_bytes)),
    };
    Some(format!("{} there, {} pulled ({}){removed}", count(hits), count(pulls), bytes(pulled_bytes)))
}

/// A count with thousands separated.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with what is counted.
pub(crate) fn plural(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{} {what}s", count(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let durations = [(5, "5 ms"), (1_500, "1.5 s"), (61_000, "1m01s"), (7_260_000, "2h01m")];
        durations.iter().for_each(|(ms, text)| assert_eq!(duration(*ms), *text));
        let sizes = [(5, "5 B"), (1_500, "1.5 kB"), (2_500_000, "2.5 MB"), (7_000_000_000, "7.0 GB")];
        sizes.iter().for_each(|(number, text)| assert_eq!(bytes(*number), *text));
        let counts = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        counts.iter().for_each(|(number, text)| assert_eq!(count(*number), *text));
        let images = ImageCounts { hits: 1_000, pulls: 2, pulled_bytes: 2_500_000, ..ImageCounts::default() };
        assert_eq!(super::images(&images).unwrap(), "1,000 there, 2 pulled (2.5 MB)");
        let images = ImageCounts { evictions: 1, freed_bytes: 1_500, ..images };
        let text = "1,000 there, 2 pulled (2.5 MB), 1 removed to make room (1.5 kB freed)";
        assert_eq!(super::images(&images).unwrap(), text);
        assert_eq!(super::images(&ImageCounts::default()), None);
        let plurals = [(0, "0 workers"), (1, "1 worker"), (1_000, "1,000 workers")];
        plurals.iter().for_each(|(number, text)| assert_eq!(plural(*number, "worker"), *text));
    }
}
