//! Trying the real sequence, since what the settings of a machine promise is not what happens on it.

use std::path::Path;
use std::sync::Arc;

use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_guest::launch::{ProcMount, Users};

use super::cgroup::Cgroups;
use super::live::Live;
use super::mounter::Mounter;
use super::place::{Place, single_user};
use super::plan::Variant;
use super::store::{Record, trial};
use super::{Embedded, Isolation, Parts, blocking, layer_error};
use crate::{Prepared, Sandbox, SandboxError, SandboxSpec, WaterMarks};

/// What this machine lets us do. Errors are texts with cause and remedy.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// Namespaces as root: all features.
    pub root: Result<(), String>,
    /// User namespaces: the machine's programs.
    pub user: Result<(), String>,
    /// Cgroups of the sandboxes' own. Without them memory is only limited per process.
    pub cgroups: Result<(), String>,
    /// Images in user namespaces.
    pub user_images: Result<(), String>,
    pub(super) proc: ProcMount,
}

impl ProbeReport {
    /// Whether sandboxes with any isolation can be had.
    pub fn has_isolation(&self) -> bool {
        self.root.is_ok() || self.user.is_ok()
    }

    /// Cause and remedy for a person, where there is no isolation.
    pub fn advice(&self) -> Option<String> {
        match (&self.root, &self.user) {
            (Err(root), Err(user)) => Some(format!("namespaces as root: {root}\nuser namespaces: {user}")),
            _ => None,
        }
    }

    /// Whether images can be run with the best isolation that can be had.
    pub fn has_images(&self) -> Result<(), String> {
        self.images(if self.root.is_ok() { Users::Host } else { Users::Namespace })
    }

    /// What a person can do where sandboxes in user namespaces see processes outside of them.
    pub fn proc_advice(&self) -> Option<&'static str> {
        match (self.proc, Place::look()) {
            (ProcMount::Fresh, _) => None,
            (ProcMount::Outer, Place::Pod) => Some(
                "set `securityContext.procMount: Unmasked` for the worker's container, with `hostUsers: false` in the pod, \
                 or let each pod run one sandbox at a time",
            ),
            (ProcMount::Outer, Place::Machine) => {
                Some("run the container with `--security-opt systempaths=unconfined`")
            }
        }
    }

    pub(super) fn images(&self, users: Users) -> Result<(), String> {
        match users {
            Users::Host => Ok(()),
            Users::Namespace => self.user_images.clone(),
        }
    }

    /// The best variant, or the one asked for.
    pub(super) fn variant(&self, isolation: Isolation) -> Result<Variant, SandboxError> {
        let root = self.root.as_ref().map(|()| Variant { users: Users::Host, proc: ProcMount::Fresh });
        let user = self.user.as_ref().map(|()| Variant { users: Users::Namespace, proc: self.proc });
        let chosen = match isolation {
            Isolation::Root => root.map_err(String::clone),
            Isolation::User => user.map_err(String::clone),
            Isolation::Best => root.or(user).map_err(|_| self.advice().unwrap_or_default()),
        };
        chosen.map_err(SandboxError::Unsupported)
    }
}

/// Tries each variant with a sandbox of its own, below the folder `data`.
///
/// # Errors
/// Only where nothing can be tried: the data folder cannot be written.
pub async fn probe(data: &Path) -> Result<ProbeReport, SandboxError> {
    let name = format!("probe{}", std::process::id());
    let live = Arc::new(
        Live::claim(data, &name).map_err(|error| super::launcher::os("claim the data folder", error))?,
    );
    probe_with(data, &live).await.map(|(report, _)| report)
}

/// Tries everything, and returns the cgroups that were tried, if they can be used.
pub(super) async fn probe_with(
    data: &Path,
    live: &Arc<Live>,
) -> Result<(ProbeReport, Option<Arc<Cgroups>>), SandboxError> {
    let parts = Parts::open(data, live.clone(), Mounter::of(Users::Namespace), WaterMarks::default())?;
    let cgroups = Cgroups::open(data, live).map(Arc::new);
    let mut report = ProbeReport {
        root: Ok(()),
        user: Ok(()),
        user_images: Ok(()),
        cgroups: cgroups.as_ref().map(drop).map_err(String::clone),
        proc: ProcMount::Fresh,
    };
    let mut cgroups = cgroups.ok();
    report.root = match has_admin() {
        true => try_with_cgroups(&parts, Users::Host, &mut cgroups, &mut report.cgroups).await,
        false => Err(without_admin(Place::look()).into()),
    };
    if report.root.is_err() {
        report.user = try_user(&parts, &mut cgroups, &mut report).await;
    } else {
        report.user =
            try_one(&parts, Variant { users: Users::Namespace, proc: ProcMount::Fresh }, None).await;
    }
    let variant = Variant { users: Users::Namespace, proc: report.proc };
    report.user_images = match &report.user {
        Ok(()) => try_images(&parts, variant).await,
        Err(why) => Err(why.clone()),
    };
    Ok((report, cgroups))
}

fn has_admin() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

fn without_admin(place: Place) -> &'static str {
    match place {
        Place::Pod => {
            "this process has no CAP_SYS_ADMIN: where user namespaces do not do, set `hostUsers: false` in the pod and \
             `securityContext.capabilities.add: [SYS_ADMIN]` for the worker's container"
        }
        Place::Machine => {
            "this process has no CAP_SYS_ADMIN: run as root, or in a container with `--cap-add SYS_ADMIN \
             --security-opt seccomp=unconfined`"
        }
    }
}

/// With a `/proc` of its own, else with the outer one.
async fn try_user(
    parts: &Arc<Parts>,
    cgroups: &mut Option<Arc<Cgroups>>,
    report: &mut ProbeReport,
) -> Result<(), String> {
    let fresh = try_with_cgroups(parts, Users::Namespace, cgroups, &mut report.cgroups).await;
    if fresh.is_ok() {
        return fresh;
    }
    let outer = Variant { users: Users::Namespace, proc: ProcMount::Outer };
    match try_one(parts, outer, cgroups.clone()).await {
        Ok(()) => {
            report.proc = ProcMount::Outer;
            Ok(())
        }
        // The first refusal says more.
        Err(_) => fresh,
    }
}

/// With cgroups, and without where that fails and it is the cgroups' fault.
async fn try_with_cgroups(
    parts: &Arc<Parts>,
    users: Users,
    cgroups: &mut Option<Arc<Cgroups>>,
    note: &mut Result<(), String>,
) -> Result<(), String> {
    let variant = Variant { users, proc: ProcMount::Fresh };
    let first = try_one(parts, variant, cgroups.clone()).await;
    let (Err(why), true) = (&first, cgroups.is_some()) else { return first };
    let without = try_one(parts, variant, None).await;
    if without.is_ok() {
        *note = Err(why.clone());
        *cgroups = None;
    }
    without
}

async fn try_one(parts: &Arc<Parts>, variant: Variant, cgroups: Option<Arc<Cgroups>>) -> Result<(), String> {
    let embedded = Embedded::assemble(parts.clone(), variant, cgroups, Err("not asked for".into()), None);
    let sandbox = embedded.start_one(&spec(ImageRef::Host, super::HOST)).await.map_err(in_words)?;
    sandbox.close().await.map_err(in_words)
}

/// Unpacks a small image, runs it in a user namespace and looks whether its layers are what they should be.
async fn try_images(parts: &Arc<Parts>, variant: Variant) -> Result<(), String> {
    const HANDLE: &str = "trial";
    if let Some(why) = single_user(Place::look()) {
        return Err(why);
    }
    let (store, data) = (parts.store.clone(), parts.data.clone());
    let layers = blocking(move || {
        store.add_trial().map_err(|error| layer_error(&data, "unpack the layers of a trial", error))
    });
    let layers = layers.await.map_err(in_words)?;
    let embedded = Embedded::assemble(parts.clone(), variant, None, Err("not asked for".into()), None);
    embedded.remember(
        HANDLE.into(),
        Record { layers, digest: String::new(), env: Default::default(), base: None },
    );
    let image = ImageRef::Registry(HANDLE.into());
    let mut sandbox = embedded.start_one(&spec(image, HANDLE)).await.map_err(in_words)?;
    let seen = is_as_unpacked(&mut sandbox).await.map_err(in_words);
    sandbox.close().await.map_err(in_words)?;
    match seen? {
        true => Ok(()),
        false => {
            Err("overlays in user namespaces show files that a layer removes: Linux 5.11 or newer is needed"
                .into())
        }
    }
}

async fn is_as_unpacked(sandbox: &mut Sandbox) -> Result<bool, SandboxError> {
    let kept = sandbox.stat(trial::KEPT).await?.is_some();
    let removed = sandbox.stat(trial::REMOVED).await?.is_none();
    Ok(kept && removed && sandbox.list(trial::EMPTIED, 1, false, 1).await?.is_empty())
}

fn spec(image: ImageRef, handle: &str) -> SandboxSpec {
    SandboxSpec {
        prepared: Prepared {
            image,
            digest: String::new(),
            handle: handle.into(),
            env: Default::default(),
            pulled_bytes: 0,
            lease: Default::default(),
        },
        workdir: "/work".into(),
        network: Network::None,
        limits: LimitsSpec::default(),
        labels: Default::default(),
    }
}

fn in_words(error: SandboxError) -> String {
    match error {
        SandboxError::Unsupported(words) => words,
        SandboxError::Os { action, source } => format!("failed to {action}: {source}"),
        other => other.to_string(),
    }
}
