//! A small real image, made of this machine's shell and the libraries that it needs.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const PROGRAMS: [&str; 7] = ["bash", "cat", "chown", "ls", "mkdir", "rm", "stat"];

/// Writes `folder/image.tar` as `docker save` does, with the image `name` of two layers: the second hides a file and
/// the content of a folder of the first.
pub(crate) fn write(folder: &Path, name: &str) {
    let (config, layers) = parts();
    let config_name = format!("{}.json", sha(config.as_bytes()));
    let names = ["base/layer.tar", "change/layer.tar"];
    let manifest =
        serde_json::json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]).to_string();
    let mut archive = tar::Builder::new(File::create(folder.join("image.tar")).unwrap());
    for (path, bytes) in names.iter().zip(&layers) {
        append(&mut archive, path, bytes, 0o644, 0);
    }
    append(&mut archive, &config_name, config.as_bytes(), 0o644, 0);
    append(&mut archive, "manifest.json", manifest.as_bytes(), 0o644, 0);
    archive.finish().unwrap();
}

/// Writes `folder/<name>` as an OCI layout, with the image `name`: the small one and a file of so many bytes that no
/// other has. Returns the bytes that it unpacks to with and without that file.
pub(crate) fn write_larger(folder: &Path, name: &str, bytes: usize) -> (u64, u64) {
    let [base, change] = parts().1;
    let mut extra = tar::Builder::new(Vec::new());
    append(
        &mut extra,
        "extra",
        &name.as_bytes().iter().copied().cycle().take(bytes).collect::<Vec<_>>(),
        0o644,
        0,
    );
    let layers = [base, change, extra.into_inner().unwrap()];
    let config = config(&layers).into_bytes();
    let blobs = folder.join(name).join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        std::fs::write(blobs.join(sha(bytes)), bytes).unwrap();
        serde_json::json!({ "digest": format!("sha256:{}", sha(bytes)) })
    };
    let layers_there: Vec<_> = layers.iter().map(|layer| put(layer)).collect();
    let manifest = serde_json::json!({ "config": put(&config), "layers": layers_there }).to_string();
    let mut manifest = put(manifest.as_bytes());
    manifest["annotations"] = serde_json::json!({ "io.containerd.image.name": name });
    let index = serde_json::json!({ "manifests": [manifest] }).to_string();
    std::fs::write(folder.join(name).join("index.json"), index).unwrap();
    let [base, change, extra] = layers.map(|layer| layer.len() as u64);
    (base + change + extra, base + change)
}

/// Its configuration and its layers, lowest first.
pub(crate) fn parts() -> (String, [Vec<u8>; 2]) {
    let layers = [base(), change()];
    (config(&layers), layers)
}

fn config(layers: &[Vec<u8>]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha(layer))).collect();
    let env = ["PATH=/usr/bin:/bin", "FLAVOUR=small"];
    let config = serde_json::json!({ "config": { "Env": env }, "rootfs": { "diff_ids": diff_ids } });
    config.to_string()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, bytes: &[u8], mode: u32, owner: u64) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn base() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for path in programs_and_libraries() {
        let bytes = std::fs::read(&path).unwrap();
        append(&mut layer, path.to_str().unwrap().trim_start_matches('/'), &bytes, 0o755, 0);
    }
    append(&mut layer, "data/kept", b"low", 0o640, 1234);
    append(&mut layer, "data/hidden", b"low", 0o644, 0);
    append(&mut layer, "opaque/low", b"low", 0o644, 0);
    layer.into_inner().unwrap()
}

fn change() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "data/.wh.hidden", b"", 0o644, 0);
    append(&mut layer, "opaque/.wh..wh..opq", b"", 0o644, 0);
    append(&mut layer, "opaque/high", b"high", 0o644, 0);
    layer.into_inner().unwrap()
}

/// The programs under `/usr/bin`, and every file that `ldd` names for them, at the path that it names.
fn programs_and_libraries() -> BTreeSet<PathBuf> {
    let programs: Vec<String> = PROGRAMS.iter().map(|name| format!("/usr/bin/{name}")).collect();
    let listed = Command::new("ldd").args(&programs).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    programs.iter().map(String::as_str).chain(libraries).map(PathBuf::from).collect()
}
