//! What the tests need around a daemon: a way to it, a small image, a registry, a helper process.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    CreateImageOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions,
};
use futures::TryStreamExt;
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_sandbox::docker::{Docker, DockerOptions};
use thresher_sandbox::{Backend, Prepared, SandboxSpec, StartOptions};
use tokio::sync::OnceCell;

use crate::file_system::{PROGRAMS, root_file_system};

/// Where the guest is installed by every test of this machine.
static GUEST_DIR: LazyLock<PathBuf> = LazyLock::new(|| std::env::temp_dir().join("thresher-test-guest"));

/// The daemon to test against: `DOCKER_HOST`, else the usual socket.
pub(crate) fn host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// A client of the daemon; `None`, said on standard error, if there is none.
pub(crate) async fn daemon() -> Option<bollard::Docker> {
    let path = host();
    let client = bollard::Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION).ok();
    let answers = match &client {
        Some(client) => client.ping().await.is_ok(),
        None => false,
    };
    if !answers {
        eprintln!("skipped: no Docker daemon answers at {path}");
    }
    client.filter(|_| answers)
}

/// Options for the daemon under test, with an incarnation that no other test has.
pub(crate) fn options() -> DockerOptions {
    DockerOptions { host: Some(host()), start: start_options(), ..DockerOptions::new(&*GUEST_DIR) }
}

fn start_options() -> StartOptions {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    StartOptions { run: "docker-test".into(), incarnation: format!("{}-{number}", std::process::id()) }
}

/// A backend, the client beside it, and the small image prepared.
pub(crate) struct Rig {
    pub(crate) backend: Docker,
    pub(crate) client: bollard::Docker,
    pub(crate) base: Prepared,
    pub(crate) incarnation: String,
}

impl Rig {
    /// `None` if there is no daemon.
    pub(crate) async fn new() -> Option<Self> {
        let client = daemon().await?;
        let image = small_image(&client).await;
        let options = options();
        let incarnation = options.start.incarnation.clone();
        let backend = Docker::connect(options).await.unwrap();
        let base = backend.prepare(&image).await.unwrap();
        Some(Self { backend, client, base, incarnation })
    }

    /// Containers of this rig's backend, in any state.
    pub(crate) async fn containers(&self) -> Vec<ContainerSummary> {
        containers(&self.client, &format!("thresher.incarnation={}", self.incarnation)).await
    }
}

/// Containers with a label, in any state.
pub(crate) async fn containers(client: &bollard::Docker, label: &str) -> Vec<ContainerSummary> {
    let filters = [("label".to_owned(), vec![label.to_owned()])].into();
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    client.list_containers(Some(options)).await.unwrap()
}

/// A plain sandbox of `prepared`.
pub(crate) fn spec(prepared: &Prepared) -> SandboxSpec {
    SandboxSpec {
        prepared: prepared.clone(),
        workdir: "/srv/tree".into(),
        network: Network::None,
        limits: LimitsSpec { memory_mb: 512, pids: 256, ..LimitsSpec::default() },
        labels: BTreeMap::from([("purpose".to_owned(), "test".to_owned())]),
    }
}

/// Asks again until `done`, at most for a minute: the daemon works in the background, at its own pace.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never happened: {what}");
}

/// The image that most tests run in, imported once.
pub(crate) async fn small_image(client: &bollard::Docker) -> ImageRef {
    static IMAGE: OnceCell<ImageRef> = OnceCell::const_new();
    IMAGE.get_or_init(|| small_image_of(client)).await.clone()
}

/// The same for a daemon of one test's own.
pub(crate) async fn small_image_of(client: &bollard::Docker) -> ImageRef {
    let mut hasher = std::hash::DefaultHasher::new();
    PROGRAMS.hash(&mut hasher);
    let reference = format!("thresher-test/small:{:016x}", hasher.finish());
    if client.inspect_image(&reference).await.is_err() {
        import(client, &reference, root_file_system(), &["ENV GREETING=hello", "CMD [\"bash\"]"]).await;
    }
    ImageRef::Registry(reference)
}

/// Makes an image of one layer out of a tar.
pub(crate) async fn import(client: &bollard::Docker, reference: &str, tar: Vec<u8>, changes: &[&str]) {
    let (repo, tag) = reference.rsplit_once(':').unwrap();
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        ..Default::default()
    };
    let import = client.create_image(Some(options), Some(bollard::body_full(tar.into())), None);
    import.try_collect::<Vec<_>>().await.unwrap();
}

/// Removes an image by reference or id, if it is there.
pub(crate) async fn remove_image(client: &bollard::Docker, reference: &str) {
    let options = RemoveImageOptions { force: true, ..Default::default() };
    drop(client.remove_image(reference, Some(options), None).await);
}

/// Removes a container at once, if it is there.
pub(crate) async fn remove_container(client: &bollard::Docker, id: &str) {
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    drop(client.remove_container(id, Some(options)).await);
}
