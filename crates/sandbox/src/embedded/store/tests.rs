//! Images from archives of every form, layers shared between them, and kills in the middle.

use std::io::Write;

use tar::EntryType;

use super::super::archive::Source;
use super::super::images::Images;
use super::super::unpack::tests::tar_of;
use super::*;
use crate::image_cache::Need;

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
    rig_with(WaterMarks::default())
}

fn rig_with(marks: WaterMarks) -> Rig {
    let (data, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(data.path(), "me", marks);
    Rig { data, images, store }
}

/// As a process of its own does: with locks of its own.
fn open(data: &Path, incarnation: &str, marks: WaterMarks) -> Store {
    let live = Arc::new(Live::claim(data, incarnation).unwrap());
    Store::open(data, live, Mounter::Root, marks).unwrap()
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
        let Added { handle, record, unpacked: bytes, lease } = rig.store.add_image(&image).unwrap();
        assert_eq!(record.digest, digest, "{form:?}");
        assert_eq!(record.env, BTreeMap::from([("A".into(), "b=c".into()), ("PATH".into(), "/bin".into())]));
        let content = |index: usize| fs::read_dir(rig.store.layers().join(&record.layers[index])).unwrap();
        let names: Vec<_> = (0..2).map(|index| content(index).next().unwrap().unwrap().file_name()).collect();
        assert_eq!(names, ["high", "low"], "topmost first");
        assert!(bytes > 0);
        let again = Added { handle: handle.clone(), record: record.clone(), unpacked: 0, lease };
        assert_eq!(rig.store.add_image(&image).unwrap(), again, "only once");
        assert_eq!(rig.store.record(&handle), Some(record));
    }
}

#[test]
fn images_share_layers() {
    let rig = rig();
    write_image(rig.images.path(), Form::Old, "a", &[layer("base"), layer("one")]);
    write_image(rig.images.path(), Form::New, "b", &[layer("base"), layer("two"), layer("base")]);
    let first = rig.store.add_image(&rig.find("a")).unwrap().record;
    let second = rig.store.add_image(&rig.find("b")).unwrap().record;
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
    assert_eq!(rig.store.add_image(&rig.find("a")).unwrap().record.layers.len(), 1);
}

#[test]
fn the_first_derived_layer_of_a_key_counts() {
    let rig = rig();
    let base = Record { layers: vec![], digest: "sha256:x".into(), env: BTreeMap::new(), base: None };
    let written = tempfile::tempdir().unwrap();
    fs::write(written.path().join("first"), "1").unwrap();
    let (first, _lease) = rig.store.add_derived("key", ("base", base.clone()), written.path()).unwrap();
    fs::write(written.path().join("second"), "2").unwrap();
    assert_eq!(rig.store.add_derived("key", ("base", base), written.path()).unwrap().0, first);
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

/// Room for two of the images that [`Rig::add`] makes, and for a third one's half.
fn room_for_two() -> WaterMarks {
    WaterMarks { high_percent: 100, low_percent: 80, limit_bytes: Some(2 * IMAGE_BYTES * 5 / 4) }
}

/// Bytes of a layer of [`layer`].
const IMAGE_BYTES: u64 = 2_048;

impl Rig {
    /// Unpacks an image of one layer of its own.
    fn add(&self, name: &str) -> Added {
        write_image(self.images.path(), Form::Layout, name, &[layer(name)]);
        let added = self.store.add_image(&self.find(name)).unwrap();
        assert_eq!(added.unpacked, IMAGE_BYTES);
        added
    }

    fn is_there(&self, added: &Added) -> bool {
        self.store.record(&added.handle).is_some()
    }
}

/// Lets go of the lease, and says when it was used last: before or after others, whatever the clock's grain.
fn used_at(store: &Store, added: &mut Added, seconds: u64) {
    added.lease = Lease::default();
    store.leases.set_last_use(&added.handle, seconds);
}

#[test]
fn the_least_recently_used_image_goes_for_room_and_what_is_in_use_stays() {
    let rig = rig_with(room_for_two());
    let (mut one, mut two) = (rig.add("one"), rig.add("two"));
    assert_eq!(rig.store.make_room(Need::Growth).unwrap(), 0, "there is room for two");
    used_at(&rig.store, &mut one, 1);
    used_at(&rig.store, &mut two, 2);
    let three = rig.add("three");
    assert_eq!(rig.store.make_room(Need::Growth).unwrap(), 1);
    assert_eq!([&one, &two, &three].map(|added| rig.is_there(added)), [false, true, true]);
    assert_eq!(rig.names("layers").len(), 2);
    assert_eq!(rig.names("tmp"), Vec::<String>::new());
    let (_, in_use) = rig.store.lease(&two.handle).unwrap().unwrap();
    let mut one = rig.add("one");
    used_at(&rig.store, &mut one, 3);
    drop(three.lease);
    rig.store.leases.set_last_use(&three.handle, 4);
    assert_eq!(rig.store.make_room(Need::Growth).unwrap(), 1, "not the oldest, which is in use");
    assert_eq!(
        [&one.handle, &two.handle, &three.handle].map(|it| rig.store.record(it).is_some()),
        [false, true, true]
    );
    drop(in_use);
    let counts = rig.store.meter.counts();
    assert_eq!((counts.evictions, counts.freed_bytes), (2, 2 * IMAGE_BYTES));
}

#[test]
fn what_another_process_uses_or_makes_stays() {
    let rig = rig_with(WaterMarks { limit_bytes: Some(1), ..WaterMarks::default() });
    let other = open(rig.data.path(), "other", WaterMarks::default());
    let added = rig.add("one");
    let (_, lease) = other.lease(&added.handle).unwrap().unwrap();
    let Added { handle, record, lease: own, .. } = added;
    drop(own);
    assert_eq!(rig.store.make_room(Need::Failure).unwrap(), 0, "the other one uses it");
    // The other one is about to make an image that shares the layer, which it will find there.
    let claim = other.claim("another handle", &record).unwrap();
    drop(lease);
    assert_eq!(rig.store.make_room(Need::Failure).unwrap(), 0, "what would free nothing stays");
    assert!(other.record("another handle").is_some());
    drop(claim);
    assert_eq!(rig.store.make_room(Need::Failure).unwrap(), 2);
    assert!(other.lease(&handle).unwrap().is_none());
    assert_eq!((rig.names("layers"), rig.names("images")), (vec![], vec![]));
}

#[test]
fn derived_layers_go_with_their_base_or_before_it() {
    let rig = rig_with(WaterMarks { limit_bytes: Some(IMAGE_BYTES), ..WaterMarks::default() });
    let written = tempfile::tempdir().unwrap();
    fs::write(written.path().join("file"), vec![b'x'; 1 << 20]).unwrap();
    let base = rig.add("one");
    let under = (base.handle.as_str(), base.record.clone());
    let (derived, lease) = rig.store.add_derived("derived", under, written.path()).unwrap();
    let handle = base.handle.clone();
    drop(base);
    assert_eq!(
        rig.store.make_room(Need::Growth).unwrap(),
        0,
        "a base is in use with what was derived from it"
    );
    assert!(rig.store.lease(&handle).unwrap().is_some());
    drop(lease);
    assert_eq!(rig.store.make_room(Need::Growth).unwrap(), 2);
    assert!(!rig.store.layers().join(&derived.layers[0]).exists());
    assert!(rig.store.record(&handle).is_none());
}

#[test]
fn layers_that_no_image_names_go_and_those_of_the_probe_stay() {
    let rig = rig_with(WaterMarks { limit_bytes: Some(1), ..WaterMarks::default() });
    rig.store.add_trial().unwrap();
    // As an eviction leaves it that was killed after the record went.
    fs::create_dir(rig.store.layers().join("orphan")).unwrap();
    fs::write(rig.store.layers().join("orphan/file"), "x").unwrap();
    drop(rig.add("one"));
    assert_eq!(rig.store.make_room(Need::Growth).unwrap(), 1);
    assert_eq!(rig.names("layers"), ["trial-high", "trial-low"]);
}

#[test]
fn two_that_want_one_image_unpack_it_once() {
    let rig = rig();
    write_image(rig.images.path(), Form::Layout, "one", &[layer("one")]);
    let image = &rig.find("one");
    let stores = ["a", "b", "c", "d"].map(|name| open(rig.data.path(), name, WaterMarks::default()));
    let unpacked = std::thread::scope(|scope| {
        let works =
            stores.each_ref().map(|store| scope.spawn(move || store.add_image(image).unwrap().unpacked));
        works.map(|work| work.join().unwrap())
    });
    assert_eq!(unpacked.iter().sum::<u64>(), IMAGE_BYTES, "{unpacked:?}");
}

/// The data folder for the test below when this program is started again as the process that is killed.
const KILLED: &str = "THRESHER_TEST_LEASE_AND_WAIT";

#[test]
fn helper_leases_an_image_until_it_is_killed() {
    let Ok(folders) = std::env::var(KILLED) else { return };
    let (data, handle) = folders.rsplit_once(' ').unwrap();
    let store = open(Path::new(data), "killed", WaterMarks::default());
    let _lease = store.lease(handle).unwrap().unwrap();
    let _making = store.leases.alone_blocking("make it").unwrap();
    let record =
        Record { layers: vec!["0".repeat(40)], digest: "x".into(), env: BTreeMap::new(), base: None };
    let _claim = store.claim("half made", &record).unwrap();
    println!("leased");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_process_holds_nothing() {
    let rig = rig_with(WaterMarks { limit_bytes: Some(1), ..WaterMarks::default() });
    let Added { handle, .. } = rig.add("one");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::store::tests::helper_leases_an_image_until_it_is_killed", "--nocapture"])
        .env(KILLED, format!("{} {handle}", rig.data.path().display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = io::BufRead::lines(BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("leased")), "the helper ended early");
    assert_eq!(rig.store.make_room(Need::Failure).unwrap(), 0);
    assert!(rig.store.leases.seize("make it").unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(rig.store.leases.seize("make it").unwrap().is_some());
    assert!(rig.store.lease("half made").unwrap().is_none(), "it has no layers");
    rig.store.make_room(Need::Failure).unwrap();
    assert_eq!((rig.names("layers"), rig.names("images")), (vec![], vec![]));
}
