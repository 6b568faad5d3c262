//! One pull: its progress in bytes, and what its failure means.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::{Stream, StreamExt};

use super::engine::{CallError, Engine, is_disk_full};
use super::reference::Reference;
use crate::SandboxError;

/// Pulls `reference` and returns how many bytes came over the network. Breaks off when the daemon reports no
/// progress for `stall`. Dropping the future cancels the pull.
pub(super) async fn pull(engine: &Engine, reference: &str, stall: Duration) -> Result<u64, SandboxError> {
    let parsed = Reference::parse(reference);
    let options = CreateImageOptions {
        from_image: Some(parsed.name.clone()),
        tag: Some(parsed.version().to_owned()),
        ..CreateImageOptions::default()
    };
    let progress = engine.api.create_image(Some(options), None, None);
    match follow(engine, progress, stall).await {
        Ok(bytes) => Ok(bytes),
        Err(CallError::Refused { message, .. }) => Err(refusal(reference, message)),
        Err(error @ CallError::Unreachable(_)) => Err(engine.error("pull", error)),
    }
}

async fn follow(
    engine: &Engine,
    progress: impl Stream<Item = Result<CreateImageInfo, Error>>,
    stall: Duration,
) -> Result<u64, CallError> {
    let mut progress = std::pin::pin!(progress);
    let mut bytes = PulledBytes::default();
    loop {
        let next = async { Ok(progress.next().await) };
        match engine.call_within(stall, next).await? {
            Some(event) => bytes.see(&event?),
            None => return Ok(bytes.total()),
        }
    }
}

/// Bytes per layer, from the daemon's progress lines.
#[derive(Default)]
struct PulledBytes {
    layers: HashMap<String, LayerBytes>,
}

#[derive(Default)]
struct LayerBytes {
    seen: u64,
    size: u64,
    complete: bool,
}

impl PulledBytes {
    fn see(&mut self, event: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&event.id, &event.status) else { return };
        let detail = event.progress_detail.as_ref();
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        let current = number(detail.and_then(|detail| detail.current));
        let size = number(detail.and_then(|detail| detail.total));
        match status.as_str() {
            "Downloading" => {
                let layer = self.layers.entry(id.clone()).or_default();
                layer.seen = layer.seen.max(current);
                layer.size = layer.size.max(size);
            }
            // A small layer is there before its first "Downloading" line: its extraction tells the same size.
            "Extracting" => {
                let layer = self.layers.entry(id.clone()).or_default();
                layer.size = layer.size.max(size);
                layer.complete = true;
            }
            "Download complete" | "Pull complete" => {
                self.layers.entry(id.clone()).or_default().complete = true
            }
            _ => {}
        }
    }

    fn total(&self) -> u64 {
        self.layers
            .values()
            .map(|layer| if layer.complete { layer.size.max(layer.seen) } else { layer.seen })
            .sum()
    }
}

/// What the daemon's words about a failed pull mean.
///
/// The daemon passes the registry's answer on as text only, so the words decide. "pull access denied ... repository
/// does not exist" is counted as an absent image: it is what an open registry says of a name that it does not have.
pub(crate) fn refusal(image: &str, message: String) -> SandboxError {
    const RATE_LIMITED: &[&str] = &["toomanyrequests", "too many requests", "rate limit"];
    const ABSENT: &[&str] = &[
        "manifest unknown",
        "name unknown",
        "not found",
        "repository does not exist",
        "no matching manifest",
        "invalid reference format",
        "unsupported media type",
    ];
    let words = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    let image = image.to_owned();
    if says(RATE_LIMITED) {
        SandboxError::RateLimited { image, retry_after: retry_after(&words) }
    } else if is_disk_full(&message) {
        SandboxError::DiskFull(message)
    } else if says(ABSENT) {
        SandboxError::NoImage { image, message }
    } else {
        SandboxError::Registry { image, message }
    }
}

/// The pause that a lower-case message asks for: `retry-after: 30`, `retry after 1.5s`, `retry-after: 900.1ms`.
fn retry_after(words: &str) -> Option<Duration> {
    let at = words.find("retry-after").or_else(|| words.find("retry after"))?;
    let rest = words[at + "retry-after".len()..].trim_start_matches([':', ' ', '"', '=']);
    let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let number: f64 = rest[..digits].parse().ok()?;
    let unit: String =
        rest[digits..].trim_start().chars().take_while(|letter| letter.is_alphabetic()).collect();
    let seconds = match unit.as_str() {
        "µs" | "us" => number / 1e6,
        "ms" => number / 1e3,
        "m" | "min" | "minutes" => number * 60.0,
        _ => number,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn event(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn bytes_are_counted_once_per_layer() {
        let mut bytes = PulledBytes::default();
        for event in [
            event("latest", "Pulling from x", 0, 0),
            event("a", "Already exists", 0, 0),
            event("b", "Downloading", 100, 1000),
            event("b", "Downloading", 900, 1000),
            event("b", "Download complete", 0, 0),
            event("b", "Extracting", 1000, 1000),
            event("b", "Pull complete", 0, 0),
            event("c", "Extracting", 32, 77),
            event("d", "Downloading", 5, 50),
        ] {
            bytes.see(&event);
        }
        assert_eq!(bytes.total(), 1000 + 77 + 5);
    }

    #[test]
    fn refusals_are_told_apart_by_who_acted() {
        let cases = [
            ("manifest for x:1 not found: manifest unknown: manifest unknown", "image"),
            (
                "pull access denied for x, repository does not exist or may require 'docker login': denied",
                "image",
            ),
            ("no matching manifest for linux/arm64/v8 in the manifest list entries", "image"),
            ("toomanyrequests: You have reached your pull rate limit", "limit"),
            ("received unexpected HTTP status: 429 Too Many Requests", "limit"),
            ("failed to register layer: write /a: no space left on device", "disk"),
            ("Get \"https://r/v2/\": unauthorized: authentication required", "registry"),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "registry"),
            ("received unexpected HTTP status: 503 Service Unavailable", "registry"),
        ];
        for (message, class) in cases {
            let error = refusal("x:1", message.into());
            let seen = match error {
                SandboxError::NoImage { .. } => "image",
                SandboxError::RateLimited { .. } => "limit",
                SandboxError::DiskFull(_) => "disk",
                SandboxError::Registry { .. } => "registry",
                _ => "other",
            };
            assert_eq!(seen, class, "{message}");
        }
    }

    #[test]
    fn the_asked_pause_is_read() {
        let cases = [
            ("toomanyrequests: retry-after: 30, allowed: 1/minute", Some(30_000)),
            ("retry-after: 957.5ms, allowed", Some(957)),
            ("please retry after 2 minutes", Some(120_000)),
            ("retry-after: soon", None),
            ("slow down", None),
        ];
        for (words, millis) in cases {
            assert_eq!(retry_after(words).map(|pause| pause.as_millis()), millis, "{words}");
        }
    }
}
