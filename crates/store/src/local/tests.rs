use super::*;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn staged(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(".staging")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_dead_writers_files_are_never_listed_and_the_next_writer_removes_them() {
    let root = tempfile::tempdir().unwrap();
    let dead = root.path().join(".staging/00000000deadbeef");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("7"), "half an obj").unwrap();
    fs::write(dead.with_extension("lock"), "").unwrap();

    let live = LocalDir::new(root.path());
    assert_eq!(live.list("", None).await.unwrap(), []);
    live.put(&path("a"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap();
    let left = staged(root.path());
    assert!(!left.iter().any(|name| name.contains("deadbeef")), "{left:?}");

    // A second writer leaves the first one's folder alone: it is alive.
    let second = LocalDir::new(root.path());
    second.put(&path("b"), Bytes::from_static(b"2"), PutMode::Create).await.unwrap();
    assert_eq!(staged(root.path()).len(), 4);
    drop((live, second));
    assert_eq!(staged(root.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_create_and_a_failed_put_leave_nothing_staged() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalDir::new(root.path());
    store.put(&path("a"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap();
    let lost = store.put(&path("a"), Bytes::from_static(b"2"), PutMode::Create).await.unwrap();
    let stale = PutMode::Update(Etag::new("stale"));
    assert_eq!(lost, PutOutcome::Conflict);
    assert_eq!(store.put(&path("a"), Bytes::from_static(b"2"), stale).await.unwrap(), PutOutcome::Conflict);
    let below = store.put(&path("a/b"), Bytes::from_static(b"2"), PutMode::Create).await;
    assert!(matches!(below, Err(StoreError::Unstorable { .. })), "{below:?}");
    let own = staged(root.path()).into_iter().find(|name| !name.ends_with(".lock")).unwrap();
    assert_eq!(fs::read_dir(root.path().join(".staging").join(own)).unwrap().count(), 0);
}

#[test]
fn the_fallback_for_old_file_systems_keeps_the_condition() {
    let root = tempfile::tempdir().unwrap();
    let (staged, target) = (root.path().join("staged"), root.path().join("target"));
    fs::write(&staged, "new").unwrap();
    assert!(link_new(&staged, &target).unwrap());
    assert!(!staged.exists());
    fs::write(&staged, "newer").unwrap();
    assert!(!link_new(&staged, &target).unwrap());
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
}
