//! What workers print.

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};

use crate::ClusterError;
use crate::fleet::Fleet;

/// Pods whose logs are read at a time.
const AT_A_TIME: usize = 64;

impl Fleet {
    /// Hands every line that workers print, with the name of their pod, to `hear`; `slot` picks one, `follow` waits for more
    /// lines, `tail` leaves out all but the last ones.
    pub async fn logs(
        &self,
        slot: Option<u32>,
        follow: bool,
        tail: Option<i64>,
        hear: &(dyn Fn(&str, &str) + Send + Sync),
    ) -> Result<(), ClusterError> {
        let mut selector = self.template.selector();
        if let Some(slot) = slot {
            selector.push_str(&format!(",batch.kubernetes.io/job-completion-index={slot}"));
        }
        let pods = self.pods().list(&ListParams::default().labels(&selector)).await;
        let mut pods = pods.map_err(|error| ClusterError::of("list the run's pods", error))?.items;
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        let names = pods.iter().map(|pod| pod.name_any());
        let read = stream::iter(names).map(async |pod| self.log_of(&pod, follow, tail, hear).await);
        let at_a_time = if follow { AT_A_TIME } else { 1 };
        read.buffer_unordered(at_a_time).try_collect::<Vec<()>>().await.map(drop)
    }

    async fn log_of(
        &self,
        pod: &str,
        follow: bool,
        tail: Option<i64>,
        hear: &(dyn Fn(&str, &str) + Send + Sync),
    ) -> Result<(), ClusterError> {
        let container = Some("worker".to_owned());
        let parameters = LogParams { container, follow, tail_lines: tail, ..LogParams::default() };
        let lines = match self.pods().log_stream(pod, &parameters).await {
            Ok(lines) => lines,
            // It has not begun to run, or is gone meanwhile.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => return Ok(()),
            Err(error) => return Err(ClusterError::of(&format!("read the log of {pod}"), error)),
        };
        let mut lines = lines.lines();
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => hear(pod, &line),
                Err(error) => {
                    tracing::warn!(%error, pod, "its log breaks off");
                    break;
                }
            }
        }
        Ok(())
    }
}
