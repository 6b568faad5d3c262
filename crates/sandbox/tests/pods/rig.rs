//! What the tests need around a cluster: a namespace, images in its registry, a backend.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_sandbox::pods::{Pods, PodsOptions, install_guest};
use thresher_sandbox::{Prepared, SandboxSpec, StartOptions};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard};

use crate::file_system::{PROGRAMS, add_file, root_file_system};
use crate::registry::Registry;

/// Held for reading by every test; for writing by one that takes something of the cluster away.
static WHOLE: RwLock<()> = RwLock::const_new(());

/// A cluster to test against.
pub(crate) struct Rig {
    kubeconfig: PathBuf,
    pub(crate) client: Client,
    pub(crate) registry: Registry,
    pub(crate) namespace: String,
    guest_image: String,
    /// The image that most tests run in.
    pub(crate) small: ImageRef,
    _whole: Option<RwLockReadGuard<'static, ()>>,
}

impl Rig {
    /// `None`, said on standard error, if there is no cluster.
    pub(crate) async fn new() -> Option<Self> {
        let mut rig = Self::alone().await?;
        rig._whole = Some(WHOLE.read().await);
        Some(rig)
    }

    /// As [`Rig::new`], beside other tests that hold the cluster.
    pub(crate) async fn alone() -> Option<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(kubeconfig), Some(address)) =
            (variable("KUBECONFIG"), variable("THRESHER_CLUSTER_REGISTRY"))
        else {
            eprintln!("skipped: no cluster with a registry: eval \"$(scripts/cluster up)\" starts one");
            return None;
        };
        let kubeconfig = PathBuf::from(kubeconfig);
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let (client, registry) = (Client::try_from(config).unwrap(), Registry { address });
        let namespace = "thresher-test".to_owned();
        static READY: OnceCell<(String, String)> = OnceCell::const_new();
        let (guest_image, small) = READY.get_or_init(|| make_ready(&client, &registry, &namespace)).await;
        Some(Self {
            kubeconfig,
            namespace,
            guest_image: guest_image.clone(),
            small: ImageRef::Registry(small.clone()),
            client,
            registry,
            _whole: None,
        })
    }

    /// Options with a slot and an incarnation that no other test has.
    pub(crate) fn options(&self) -> PodsOptions {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = StartOptions { run: "pods-test".into(), incarnation: format!("i{number}") };
        PodsOptions {
            kubeconfig: Some(self.kubeconfig.clone()),
            guest_command: vec!["/thresher-guest".into(), "install".into()],
            start,
            slot: format!("{}-{number}", std::process::id()),
            ..PodsOptions::new(&self.namespace, &self.guest_image)
        }
    }

    pub(crate) async fn backend(&self) -> Pods {
        Pods::connect(self.options()).await.unwrap()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pods of a slot, in any state.
    pub(crate) async fn pods_of(&self, slot: &str) -> Vec<Pod> {
        let options = ListParams::default().labels(&format!("thresher.dev/slot={slot}"));
        self.pods().list(&options).await.unwrap().items
    }
}

/// Waits until nobody else holds the cluster.
pub(crate) async fn whole_cluster() -> tokio::sync::RwLockWriteGuard<'static, ()> {
    WHOLE.write().await
}

/// Makes the namespace and pushes the images: of the guest and of the environment.
async fn make_ready(client: &Client, registry: &Registry, namespace: &str) -> (String, String) {
    let metadata = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
    let wanted = Namespace { metadata, ..Namespace::default() };
    match Api::all(client.clone()).create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        created => drop(created.unwrap()),
    }
    let folder = tempfile::tempdir().unwrap();
    let guest = std::fs::read(install_guest(folder.path()).unwrap()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "thresher-guest", &guest, 0o755);
    let tag = hash(&guest);
    let guest_image = registry.push("thresher-test/guest", &tag, &tar.into_inner().unwrap(), &[]).await;
    let (system, env) = (root_file_system(), ["GREETING=hello", "PATH=/usr/bin:/bin"]);
    let small = registry.push("thresher-test/small", &hash(PROGRAMS), &system, &env).await;
    (guest_image, small)
}

fn hash(of: impl Hash) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A plain sandbox of `prepared`.
pub(crate) fn spec(prepared: &Prepared) -> SandboxSpec {
    SandboxSpec {
        prepared: prepared.clone(),
        workdir: "/srv/tree".into(),
        network: Network::None,
        limits: LimitsSpec { memory_mb: 256, pids: 256, disk_mb: 512, ..LimitsSpec::default() },
        labels: BTreeMap::from([("purpose".to_owned(), "test".to_owned())]),
    }
}

/// Asks again until `done`, at most for two minutes: the cluster works in the background, at its own pace.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    for _ in 0..1_200 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never happened: {what}");
}
