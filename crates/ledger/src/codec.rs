//! The bytes of the run's objects: JSON with a format version, plain where people read it, else zstd-compressed.

use std::io::Read as _;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thresher_core::record::SCHEMA_VERSION;

use crate::LedgerError;

/// Version of every object that this crate writes. Readers know this and older ones.
///
/// 2: the rollouts that a pack covers are one text, log entries can condemn, and a grader's log follows its record.
pub(crate) const FORMAT: i32 = 2;

/// Version of the protocol between the workers of a run. Plans, claims and heartbeats state it, and whoever reads
/// another one stops: unlike an old format, an old protocol cannot be worked with.
pub const PROTOCOL: u32 = 1;

/// zstd's level for objects and tables: 9 saves 7 % more at three times the time.
pub(crate) const ZSTD_LEVEL: i32 = 3;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: i32,
    body: T,
}

/// The versions alone (bodies are JSON objects): read first, so that an object of a newer program is refused as such and not as damaged.
#[derive(Deserialize)]
struct Versions {
    format: i32,
    #[serde(default)]
    body: SchemaOf,
}

#[derive(Default, Deserialize)]
struct SchemaOf {
    schema_version: Option<i32>,
    protocol: Option<u32>,
}

/// Encodes an object that programs read.
pub(crate) fn pack<T: Serialize>(body: &T) -> Bytes {
    compress(&line(body))
}

/// An object of a record and what its grading run printed, which `zstd -dc` prints one after the other.
pub(crate) struct WithLog {
    /// A frame with the record and, if there is a log, another with it.
    pub(crate) bytes: Bytes,
    /// Length of the first frame.
    pub(crate) record_bytes: u64,
    /// Length of the record before compression.
    pub(crate) raw_bytes: u64,
}

/// Encodes a record, and the log of its grading run behind it.
pub(crate) fn pack_with_log<T: Serialize>(body: &T, log: Option<&[u8]>) -> WithLog {
    let json = line(body);
    let mut bytes = compress(&json).to_vec();
    let record_bytes = bytes.len() as u64;
    if let Some(log) = log {
        bytes.extend_from_slice(&compress(log));
    }
    WithLog { bytes: bytes.into(), record_bytes, raw_bytes: json.len() as u64 }
}

fn line<T: Serialize>(body: &T) -> Vec<u8> {
    let mut json = serde_json::to_vec(&Envelope { format: FORMAT, body }).expect("records serialize");
    json.push(b'\n');
    json
}

/// Encodes an object that people read too.
pub(crate) fn plain<T: Serialize>(body: &T) -> Bytes {
    let envelope = Envelope { format: FORMAT, body };
    let mut json = serde_json::to_vec_pretty(&envelope).expect("plans and log entries serialize");
    json.push(b'\n');
    json.into()
}

/// Decodes what [`pack`] or [`pack_with_log`] made; `path` is for messages. Also gives the size before compression.
pub(crate) fn unpack<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<(T, u64), LedgerError> {
    let (json, _) = first_frame(path, bytes)?;
    Ok((parse(path, &json)?, json.len() as u64))
}

/// The log behind a record that [`pack_with_log`] made; `None` if there is none.
pub(crate) fn log_of(path: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
    let (_, rest) = first_frame(path, bytes)?;
    if rest.is_empty() { Ok(None) } else { decompress(path, rest).map(Some) }
}

/// The content of the first frame, and the bytes behind it.
fn first_frame<'a>(path: &str, bytes: &'a [u8]) -> Result<(Vec<u8>, &'a [u8]), LedgerError> {
    let mut raw = Vec::new();
    let decoder = zstd::Decoder::with_buffer(bytes).map_err(|error| damaged(path, error))?;
    let mut decoder = decoder.single_frame();
    decoder.read_to_end(&mut raw).map_err(|error| damaged(path, error))?;
    Ok((raw, decoder.finish()))
}

/// Decodes what [`plain`] made.
pub(crate) fn parse<T: DeserializeOwned>(path: &str, json: &[u8]) -> Result<T, LedgerError> {
    let versions: Versions = from_json(path, json)?;
    refuse_newer(path, versions.format, FORMAT)?;
    refuse_newer(path, versions.body.schema_version.unwrap_or(SCHEMA_VERSION), SCHEMA_VERSION)?;
    refuse_other_protocol(path, versions.body.protocol.unwrap_or(PROTOCOL))?;
    Ok(from_json::<Envelope<T>>(path, json)?.body)
}

fn from_json<T: DeserializeOwned>(path: &str, json: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(json).map_err(|error| damaged(path, error))
}

/// Refuses what a newer program wrote.
pub(crate) fn refuse_newer(path: &str, found: i32, known: i32) -> Result<(), LedgerError> {
    if found <= known {
        return Ok(());
    }
    Err(LedgerError::Newer { path: path.to_owned(), found: found.into(), known: known.into() })
}

/// Refuses what belongs to another protocol: its writers and we would not see each other's claims.
fn refuse_other_protocol(path: &str, found: u32) -> Result<(), LedgerError> {
    if found == PROTOCOL {
        return Ok(());
    }
    Err(LedgerError::OtherProtocol { path: path.to_owned(), found, known: PROTOCOL })
}

pub(crate) fn damaged(path: &str, reason: impl ToString) -> LedgerError {
    LedgerError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

pub(crate) fn compress(bytes: &[u8]) -> Bytes {
    zstd::encode_all(bytes, ZSTD_LEVEL).expect("compressing in memory cannot fail").into()
}

pub(crate) fn decompress(path: &str, bytes: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let mut raw = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(|error| damaged(path, error))?;
    decoder.read_to_end(&mut raw).map_err(|error| damaged(path, error))?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_a_newer_program_wrote_is_refused_as_such() {
        for (json, found, known) in [
            (r#"{"format": 9, "other": 1}"#, 9, FORMAT),
            (r#"{"format": 1, "body": {"schema_version": 7, "new": 1}}"#, 7, SCHEMA_VERSION),
        ] {
            let error =
                unpack::<BTreeMap<String, u8>>("results/a/b", &compress(json.as_bytes())).unwrap_err();
            let expected = format!(
                "`results/a/b` has format version {found}, and this program knows versions up to {known}: \
                 use a newer thresher"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn damage_is_named_with_its_object() {
        let whole = pack(&BTreeMap::from([("key", "value")]));
        for bytes in [&whole[..whole.len() - 1], b"junk", &compress(b"{}"), &compress(br#"{"format":1}"#)] {
            let error = unpack::<BTreeMap<String, String>>("results/a/b", bytes).unwrap_err();
            assert!(error.to_string().starts_with("`results/a/b` is damaged"), "{error}");
        }
        assert_eq!(unpack::<BTreeMap<String, String>>("p", &whole).unwrap().0["key"], "value");
    }

    #[test]
    fn a_log_follows_its_record() {
        let record = BTreeMap::from([("key", "value")]);
        for (log, whole) in [(None, ""), (Some(&b""[..]), ""), (Some(b"1 passed\n"), "1 passed\n")] {
            let packed = pack_with_log(&record, log);
            assert_eq!(unpack::<BTreeMap<String, String>>("p", &packed.bytes).unwrap().0["key"], "value");
            let alone = &packed.bytes[..packed.record_bytes as usize];
            let (_, raw_bytes) = unpack::<BTreeMap<String, String>>("p", alone).unwrap();
            assert_eq!(raw_bytes, packed.raw_bytes);
            assert_eq!(log_of("p", &packed.bytes).unwrap().as_deref(), log);
            let printed = String::from_utf8(decompress("p", &packed.bytes).unwrap()).unwrap();
            assert_eq!(printed.split_once('\n').unwrap().1, whole);
        }
        let cut = pack_with_log(&record, Some(b"1 passed")).bytes;
        assert!(log_of("p", &cut[..cut.len() - 1]).is_err());
    }

    #[test]
    fn numbers_come_back_to_the_bit() {
        for number in [0.1 + 0.2, 1.0 / 3.0, 5e-324, 1.797_693_134_862_315_7e308] {
            let (back, _) =
                unpack::<BTreeMap<String, f64>>("p", &pack(&BTreeMap::from([("n", number)]))).unwrap();
            assert_eq!(back["n"].to_bits(), f64::to_bits(number));
        }
    }
}
