//! The dataset's files beside the run.

use std::path::PathBuf;

use thresher_core::Sha256Hex;
use thresher_ledger::LedgerError;

use crate::fixtures::{local, memory};

fn files(dir: &std::path::Path) -> Vec<(String, PathBuf)> {
    // One is larger than what is stored as one piece, and one is empty.
    let large: Vec<u8> = (0..(33u32 << 20)).map(|at| (at / 977) as u8).collect();
    let contents =
        [("train/a.jsonl", b"one".to_vec()), ("train/b.parquet", large), ("train/c.jsonl", Vec::new())];
    let write = |(name, content): (&str, Vec<u8>)| {
        let path = dir.join(name.replace('/', "-"));
        std::fs::write(&path, content).unwrap();
        (name.to_owned(), path)
    };
    contents.map(write).to_vec()
}

#[tokio::test]
async fn d1_to_d3_files_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, fingerprint) = (memory(), Sha256Hex::of(b"f"));
    let files = files(dir.path());
    let into = dir.path().join("fetched");
    assert!(!ledger.fetch_data(&fingerprint, &into).await.unwrap(), "nothing is stored yet");
    for _ in 0..2 {
        ledger.store_data(&fingerprint, &files).await.unwrap();
    }
    for _ in 0..2 {
        assert!(ledger.fetch_data(&fingerprint, &into).await.unwrap());
    }
    for (name, path) in &files {
        assert!(std::fs::read(into.join(name)).unwrap() == std::fs::read(path).unwrap(), "{name}");
    }
    let others: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(others.len(), files.len() + 1, "nothing else is left: {others:?}");
}

#[tokio::test]
async fn a_piece_that_changed_is_refused_and_nothing_is_left() {
    let (dir, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ledger, fingerprint) = (local(store.path()), Sha256Hex::of(b"f"));
    ledger.store_data(&fingerprint, &files(dir.path())[..1]).await.unwrap();
    let piece = store.path().join(format!("data/{fingerprint}/{}", Sha256Hex::of(b"one")));
    std::fs::write(piece, "two").unwrap();
    let into = dir.path().join("fetched");
    let error = ledger.fetch_data(&fingerprint, &into).await.unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(!into.exists() && std::fs::read_dir(dir.path()).unwrap().count() == 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.jsonl");
    let files = [("absent.jsonl".to_owned(), absent.clone())];
    let error = memory().store_data(&Sha256Hex::of(b"f"), &files).await.unwrap_err();
    assert!(error.to_string().starts_with(&absent.display().to_string()), "{error}");
}
