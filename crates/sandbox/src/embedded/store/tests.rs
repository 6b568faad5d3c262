//! Images from archives of every form, layers shared between them, and kills in the middle.

use std::io::Write;

use tar::EntryType;

use super::super::archive::Source;
use super::super::images::Images;
use super::super::unpack::tests::tar_of;
use super::*;

/// The forms that archives come in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// `docker save` before version 25.
    Old,
    /// `docker save` since: an OCI layout with `manifest.json` beside it.
    New,
    /// An OCI layout folder.
    Layout,
}

fn sha(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes an image called `name` with these layers into `folder`. Returns the digest that records should hold.
fn write_image(folder: &Path, form: Form, name: &str, layers: &[Vec<u8>]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha(layer))).collect();
    let config = serde_json::json!({
        "config": { "Env": ["PATH=/bin", "A=b=c"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    if form == Form::Old {
        files.push((format!("{}.json", sha(&config)), config.clone()));
        let names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", sha(layer))).collect();
        files.extend(names.iter().cloned().zip(layers.iter().cloned()));
        let manifest = serde_json::json!([{ "Config": format!("{}.json", sha(&config)), "RepoTags": [name], "Layers": names }]);
        files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
        write_tar(&folder.join(format!("{}.tar", sha(&config))), &files);
        return format!("sha256:{}", sha(&config));
    }
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha(bytes));
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let descriptor = |bytes: &[u8]| serde_json::json!({ "digest": format!("sha256:{}", sha(bytes)) });
    let manifest = serde_json::json!({
        "config": descriptor(&config),
        "layers": packed.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    files.extend(packed.iter().chain([&config, &manifest]).map(|bytes| (blob(bytes), bytes.clone())));
    let index = serde_json::json!({ "manifests": [{
        "digest": format!("sha256:{}", sha(&manifest)),
        "annotations": { "io.containerd.image.name": name },
    }] });
    files.push(("index.json".into(), index.to_string().into_bytes()));
    if form == Form::New {
        let layers: Vec<String> = packed.iter().map(|layer| blob(layer)).collect();
        let saved = serde_json::json!([{ "Config": blob(&config), "RepoTags": [name], "Layers": layers }]);
        files.push(("manifest.json".into(), saved.to_string().into_bytes()));
        write_tar(&folder.join(format!("{}.tar", sha(&config))), &files);
        return format!("sha256:{}", sha(&config));
    }
    for (path, bytes) in &files {
        let path = folder.join(sha(&config)).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    format!("sha256:{}", sha(&manifest))
}

fn write_tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.finish().unwrap();
}

struct Rig {
    data: tempfile::TempDir,
    images: tempfile::TempDir,
    store: Store,
}

fn rig() -> Rig {
    let (data, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let live = Arc::new(Live::claim(data.path(), "me").unwrap());
    let store = Store::open(data.path(), live, Mounter::Root).unwrap();
    Rig { data, images, store }
}

impl Rig {
    fn find(&self, name: &str) -> StoredImage {
        Images::new(Some(self.images.path().to_owned())).find(name).unwrap()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.data.path().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn layer(name: &str) -> Vec<u8> {
    tar_of(&[(EntryType::Regular, name, name)])
}

#[test]
fn every_form_of_archive_is_found_and_unpacked() {
    for form in [Form::Old, Form::New, Form::Layout] {
        let rig = rig();
        let digest = write_image(rig.images.path(), form, "me/image:1", &[layer("low"), layer("high")]);
        let image = rig.find("docker.io/me/image:1");
        assert_eq!(rig.find(&format!("me/image@{digest}")).digest, digest, "{form:?}");
        let (handle, record, bytes) = rig.store.add_image(&image).unwrap();
        assert_eq!(record.digest, digest, "{form:?}");
        assert_eq!(record.env, BTreeMap::from([("A".into(), "b=c".into()), ("PATH".into(), "/bin".into())]));
        let content = |index: usize| fs::read_dir(rig.store.layers().join(&record.layers[index])).unwrap();
        let names: Vec<_> = (0..2).map(|index| content(index).next().unwrap().unwrap().file_name()).collect();
        assert_eq!(names, ["high", "low"], "topmost first");
        assert!(bytes > 0);
        assert_eq!(rig.store.add_image(&image).unwrap(), (handle.clone(), record.clone(), 0), "only once");
        assert_eq!(rig.store.record(&handle), Some(record));
    }
}

#[test]
fn images_share_layers() {
    let rig = rig();
    write_image(rig.images.path(), Form::Old, "a", &[layer("base"), layer("one")]);
    write_image(rig.images.path(), Form::New, "b", &[layer("base"), layer("two"), layer("base")]);
    let (_, first, _) = rig.store.add_image(&rig.find("a")).unwrap();
    let (_, second, _) = rig.store.add_image(&rig.find("b")).unwrap();
    assert_eq!(rig.names("layers").len(), 3);
    assert_eq!(first.layers[1], second.layers[0], "a layer that comes twice counts at its upper place");
    assert_eq!(second.layers.len(), 2);
}

#[test]
fn a_layer_that_is_not_what_its_hash_says_is_refused_and_leaves_nothing() {
    let rig = rig();
    write_image(rig.images.path(), Form::Old, "a", &[layer("true")]);
    let image = rig.find("a");
    let (forged, _) = (StoredImage { layers: vec![image.config.clone()], ..image }, ());
    let error = rig.store.add_image(&forged).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!((rig.names("layers"), rig.names("tmp")), (vec![], vec![]));
}

#[test]
fn a_kill_in_the_middle_leaves_only_what_the_reaper_removes() {
    let rig = rig();
    // As a killed process leaves it: a half layer under its name, which no lock holds any more; and one of ours.
    for name in ["dead.0", "me.7"] {
        fs::create_dir(rig.data.path().join("tmp").join(name)).unwrap();
        fs::write(rig.data.path().join("tmp").join(name).join("half"), "x").unwrap();
    }
    fs::write(rig.data.path().join("live/dead"), "").unwrap();
    assert_eq!(reap_entries(rig.data.path(), "tmp"), 1);
    assert_eq!(rig.names("tmp"), ["me.7"]);
    write_image(rig.images.path(), Form::Old, "a", &[layer("whole")]);
    assert_eq!(rig.store.add_image(&rig.find("a")).unwrap().1.layers.len(), 1);
}

#[test]
fn the_first_derived_layer_of_a_key_counts() {
    let rig = rig();
    let base = Record { layers: vec![], digest: "sha256:x".into(), env: BTreeMap::new() };
    let written = tempfile::tempdir().unwrap();
    fs::write(written.path().join("first"), "1").unwrap();
    let first = rig.store.add_derived("key", base.clone(), written.path()).unwrap();
    fs::write(written.path().join("second"), "2").unwrap();
    assert_eq!(rig.store.add_derived("key", base, written.path()).unwrap(), first);
    assert!(!rig.store.layers().join(&first.layers[0]).join("second").exists());
    assert_eq!(rig.names("tmp"), Vec::<String>::new());
}

#[test]
fn digests_do_not_lead_out_of_a_layout() {
    let images = tempfile::tempdir().unwrap();
    for digest in ["sha256:../../etc/passwd", "../x:y", "sha256", ""] {
        let index = serde_json::json!({ "manifests": [{ "digest": digest }] });
        fs::write(images.path().join("index.json"), index.to_string()).unwrap();
        let source = Arc::new(Source::open(images.path()).unwrap().unwrap());
        assert_eq!(source.images().unwrap_err().kind(), io::ErrorKind::InvalidData, "{digest}");
    }
    for diff_id in ["sha256:../../x", "sha256:ABC", "md5:00", ""] {
        assert!(layer_name(diff_id).is_err(), "{diff_id}");
    }
}

#[test]
fn a_missing_image_says_where_it_was_looked_for() {
    let images = tempfile::tempdir().unwrap();
    let folder = Images::new(Some(images.path().to_owned()));
    let error = folder.find("a").unwrap_err().to_string();
    assert!(error.contains(images.path().to_str().unwrap()), "{error}");
    write_image(images.path(), Form::Old, "a", &[layer("x")]);
    folder.find("a").expect("the folder changed, so it is read again");
    assert!(Images::new(None).find("a").unwrap_err().to_string().contains("sandbox.images"));
}
