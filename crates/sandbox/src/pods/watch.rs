//! What becomes of this process's own pods: one watch for all of them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, ResourceExt};
use tokio::sync::watch as channel;
use tokio_util::task::AbortOnDropHandle;

/// What is known of a pod.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// Nothing yet: it may not even have been created.
    Nothing,
    /// As it was last.
    There(Arc<Pod>),
    /// It is gone; as it was last.
    Gone(Arc<Pod>),
}

/// Follows the pods that are asked for by name; all others pass unseen.
pub(super) struct Watch {
    known: Arc<Known>,
    _task: AbortOnDropHandle<()>,
}

/// The pods asked for.
struct Known {
    pods: Mutex<HashMap<String, Seen>>,
    changed: channel::Sender<()>,
}

impl Watch {
    /// Begins to watch the pods that `selector` names.
    pub(super) fn begin(pods: Api<Pod>, selector: &str) -> Self {
        let known = Arc::new(Known { pods: Mutex::default(), changed: channel::Sender::new(()) });
        let (following, config) = (known.clone(), watcher::Config::default().labels(selector));
        let task = tokio::spawn(async move { follow(pods, config, &following).await });
        Self { known, _task: AbortOnDropHandle::new(task) }
    }

    /// From now on keeps what becomes of `name`.
    pub(super) fn track(&self, name: &str) {
        self.known.lock().insert(name.to_owned(), Seen::Nothing);
    }

    /// What becomes of `name` is of no interest any more.
    pub(super) fn forget(&self, name: &str) {
        self.known.lock().remove(name);
    }

    /// What is known now.
    pub(super) fn seen(&self, name: &str) -> Seen {
        self.known.lock().get(name).cloned().unwrap_or(Seen::Nothing)
    }

    /// Takes a pod into account that was asked for beside the watch; `None` where there is none.
    pub(super) fn look(&self, name: &str, pod: Option<Pod>) {
        match pod {
            Some(pod) => self.known.put(pod),
            None => self.known.gone(name),
        }
        self.known.changed.send_replace(());
    }

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> channel::Receiver<()> {
        self.known.changed.subscribe()
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, pod: Pod) {
        if let Some(seen) = self.lock().get_mut(&pod.name_any())
            // Names are never used twice: what is gone stays so.
            && !matches!(seen, Seen::Gone(_))
        {
            *seen = Seen::There(Arc::new(pod));
        }
    }

    fn gone(&self, name: &str) {
        if let Some(seen) = self.lock().get_mut(name)
            && let Seen::There(pod) = seen
        {
            *seen = Seen::Gone(pod.clone());
        }
    }

    /// What was there and is not in a list any more is gone.
    fn gone_but(&self, listed: &HashSet<String>) {
        for (name, seen) in self.lock().iter_mut() {
            if let Seen::There(pod) = seen
                && !listed.contains(name)
            {
                *seen = Seen::Gone(pod.clone());
            }
        }
    }
}

/// Follows until the task is aborted. An API server that is away is asked again with growing pauses.
async fn follow(pods: Api<Pod>, config: watcher::Config, known: &Known) {
    let mut events = pin!(watch(pods, config).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.name_any());
                known.put(pod);
            }
            Ok(Event::InitDone) => known.gone_but(&listed),
            Ok(Event::Apply(pod)) => known.put(pod),
            Ok(Event::Delete(pod)) => {
                let name = pod.name_any();
                known.put(pod);
                known.gone(&name);
            }
            Err(error) => tracing::debug!(%error, "the watch of pods was broken off"),
        }
        known.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    fn pod(name: &str) -> Pod {
        Pod { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..Pod::default() }
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_kept_and_what_is_gone_stays_gone() {
        let known = Known { pods: Mutex::default(), changed: channel::Sender::new(()) };
        known.lock().insert("a".into(), Seen::Nothing);
        known.lock().insert("b".into(), Seen::Nothing);
        known.put(pod("a"));
        known.put(pod("other"));
        assert_eq!(known.lock().len(), 2);
        // A list that was made before `b` was created says nothing of it.
        known.gone_but(&HashSet::new());
        assert!(matches!(known.lock()["a"], Seen::Gone(_)) && matches!(known.lock()["b"], Seen::Nothing));
        known.put(pod("a"));
        assert!(matches!(known.lock()["a"], Seen::Gone(_)));
        known.gone("b");
        assert!(matches!(known.lock()["b"], Seen::Nothing));
    }
}
