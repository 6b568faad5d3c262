//! A task's work tree inside a sandbox: set-up, baseline, patch out, patch in.
//!
//! The baseline is the git tree id of the work tree after set-up; the host computes and keeps it. The same set-up in
//! a fresh sandbox must give the same tree, and then the stored patch applies to it exactly.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::patch::{
    self, ApplyMode, BlobId, Change, ChangedPath, FileChange, FileMode as GitMode, TreeEntry, TreeId,
    changed_paths, tree_id,
};
use thresher_core::record::PatchRecord;
use thresher_core::run_spec::Network;
use thresher_core::{Sha256Hex, Task};
use thresher_sandbox::{
    Backend, Command, FileMode, Sandbox, SandboxError, SandboxSpec, SnapshotEntry, Streams,
};

use crate::blobs::BlobCache;
use crate::environment::{Environment, fault};

/// Limit of the changed contents that a patch is made from, in bytes.
const PATCH_LIMIT: u64 = 64 << 20;
/// Contents fetched from a sandbox at a time, in bytes.
const FETCH_BATCH: u64 = 8 << 20;

/// A sandbox that has been set up for a task.
pub(crate) struct Workspace {
    pub(crate) sandbox: Sandbox,
    /// The repository's folder as commands see it.
    pub(crate) workdir: String,
    /// The captured environment of every command.
    pub(crate) env: BTreeMap<String, String>,
    baseline: Vec<TreeEntry>,
    /// Tree id of the baseline.
    pub(crate) tree: TreeId,
}

/// Which sandbox to open for which purpose.
pub(crate) struct Opening<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) environment: &'a Environment,
    pub(crate) task: &'a Task,
    pub(crate) settings: &'a thresher_core::run_spec::SandboxSpec,
    pub(crate) network: Network,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Opening<'_> {
    /// Starts the sandbox. Nobody's code has run yet, so every error is infrastructure's.
    pub(crate) async fn start(&self) -> Result<Sandbox, Fault> {
        let started = self.backend.start(&self.spec()).await;
        started.map_err(|error| self.environment.not_started(&error))
    }

    /// What is started.
    pub(crate) fn spec(&self) -> SandboxSpec {
        SandboxSpec {
            prepared: self.environment.prepared.clone(),
            workdir: self.task.environment.workdir.clone(),
            network: self.network,
            limits: self.settings.limits.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Sets the task up in a started sandbox and takes the baseline.
    pub(crate) async fn set_up(&self, mut sandbox: Sandbox) -> Result<Workspace, Fault> {
        let set_up = |error| fault(&error, Phase::Setup);
        self.environment.complete(&mut sandbox).await?;
        let workdir = sandbox.workdir().to_owned();
        for file in &self.task.environment.files {
            let mode = if file.executable { FileMode::Executable } else { FileMode::Plain };
            sandbox.write(&join(&workdir, &file.path), &file.content, mode).await.map_err(set_up)?;
        }
        let env = self.captured_env(&mut sandbox, &workdir).await?;
        let baseline = tree(sandbox.snapshot(&workdir).await.map_err(set_up)?)?;
        let tree = tree_id(&baseline);
        Ok(Workspace { sandbox, workdir, env, baseline, tree })
    }

    /// The environment of every command: captured once per image, because activation can be slow (conda's starts
    /// Python) and gives the same result in every sandbox of it.
    async fn captured_env(
        &self,
        sandbox: &mut Sandbox,
        workdir: &str,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let base = self.base_env(sandbox, workdir);
        let Some(activation) = &self.task.environment.activation else { return Ok(base) };
        let captured =
            self.environment.captured.get_or_try_init(|| capture(sandbox, activation, base, workdir));
        captured.await.cloned()
    }

    fn base_env(&self, sandbox: &Sandbox, workdir: &str) -> BTreeMap<String, String> {
        let identity = sandbox.identity();
        let home = if identity.isolation == "none" { workdir } else { "/root" };
        let mut env = self.environment.prepared.env.clone();
        env.entry("PATH".into())
            .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        env.insert("HOME".into(), home.to_owned());
        env.extend(self.task.environment.env.clone());
        if identity.isolation == "user_namespaces" {
            // Files of the image show owner 65534 there, and git refuses a repository of another owner.
            for (name, value) in [
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "safe.directory"),
                ("GIT_CONFIG_VALUE_0", "*"),
            ] {
                env.insert(name.into(), value.into());
            }
        }
        env
    }
}

async fn capture(
    sandbox: &mut Sandbox,
    activation: &str,
    base: BTreeMap<String, String>,
    workdir: &str,
) -> Result<BTreeMap<String, String>, Fault> {
    let script = format!("{{ {activation}\n}} >/dev/null 2>&1 || exit $?\nexec env -0");
    let command = Command::bash(script)
        .env(base)
        .cwd(workdir)
        .streams(Streams::Separate)
        .timeout(Duration::from_secs(120));
    let output = sandbox.run(&command).await.map_err(|error| fault(&error, Phase::Setup))?;
    if !output.end.is_success() {
        let message = format!("activation of the environment failed: {:?}", output.end);
        return Err(Fault::new(Blame::Image, Retry::Never, Phase::Setup, message));
    }
    Ok(parse_env(&output.stdout))
}

/// Parses the output of `env -0`, leaving out what belongs to the shell that printed it.
pub(crate) fn parse_env(output: &[u8]) -> BTreeMap<String, String> {
    String::from_utf8_lossy(output)
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| !matches!(*name, "_" | "SHLVL" | "PWD" | "OLDPWD"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl Workspace {
    /// Makes sure that the node holds the contents of the baseline, so that a patch can be made and applied.
    pub(crate) async fn keep_baseline(&mut self, blobs: &BlobCache) -> Result<(), Fault> {
        if blobs.is_complete(self.tree) {
            return Ok(());
        }
        let missing: Vec<Vec<u8>> = self
            .baseline
            .iter()
            .filter(|entry| !blobs.contains(&entry.blob))
            .map(|entry| entry.path.clone())
            .collect();
        for batch in missing.chunks(256) {
            let contents = self.sandbox.read_many(&self.workdir, batch).await;
            for content in contents.map_err(|error| fault(&error, Phase::Setup))? {
                blobs.put(&content)?;
            }
        }
        blobs.set_complete(self.tree);
        Ok(())
    }

    /// Takes the patch: kills whatever still runs, then compares the work tree with the baseline.
    ///
    /// `Ok(None)` means that the agent changed more than [`PATCH_LIMIT`].
    pub(crate) async fn take_patch(&mut self, blobs: &BlobCache) -> Result<Option<PatchRecord>, PatchError> {
        self.sandbox.kill_all().await?;
        let snapshot = self.sandbox.snapshot(&self.workdir).await?;
        let sizes: BTreeMap<Vec<u8>, u64> = snapshot.iter().map(|e| (e.path.clone(), e.size)).collect();
        let now = tree(snapshot)?;
        let changed = changed_paths(&self.baseline, &now);
        let total: u64 = changed.iter().filter_map(|change| sizes.get(&change.path)).sum();
        if total > PATCH_LIMIT {
            return Ok(None);
        }
        let changes = self.changes(changed, &sizes, blobs).await?;
        let rendered = patch::render(&changes);
        let bytes = Bytes::from(rendered.bytes);
        Ok(Some(PatchRecord {
            sha256: Sha256Hex::of(&bytes),
            bytes,
            baseline_tree: self.tree.to_string(),
            result_tree: tree_id(&now).to_string(),
            files: rendered.files,
            added: u32::try_from(rendered.added).unwrap_or(u32::MAX),
            removed: u32::try_from(rendered.removed).unwrap_or(u32::MAX),
        }))
    }

    async fn changes(
        &mut self,
        changed: Vec<ChangedPath>,
        sizes: &BTreeMap<Vec<u8>, u64>,
        blobs: &BlobCache,
    ) -> Result<Vec<FileChange>, PatchError> {
        let present: Vec<Vec<u8>> =
            changed.iter().filter(|change| change.new.is_some()).map(|change| change.path.clone()).collect();
        let mut contents = self.fetch(&present, sizes).await?;
        let mut changes = Vec::with_capacity(changed.len());
        for ChangedPath { path, old, new } in changed {
            let old = old.map(|(mode, blob)| blobs.get(&blob).map(|content| (mode, content))).transpose()?;
            let new = new.map(|(mode, _)| (mode, contents.remove(&path).unwrap_or_default()));
            changes.push(FileChange { path, old, new });
        }
        Ok(changes)
    }

    async fn fetch(
        &mut self,
        paths: &[Vec<u8>],
        sizes: &BTreeMap<Vec<u8>, u64>,
    ) -> Result<BTreeMap<Vec<u8>, Bytes>, PatchError> {
        let mut contents = BTreeMap::new();
        let mut rest = paths;
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|path| {
                    bytes += sizes.get(*path).copied().unwrap_or(0);
                    bytes <= FETCH_BATCH
                })
                .count()
                .max(1);
            let (batch, later) = rest.split_at(count);
            let fetched = self.sandbox.read_many(&self.workdir, batch).await?;
            contents.extend(batch.iter().cloned().zip(fetched));
            rest = later;
        }
        Ok(contents)
    }

    /// Applies exactly the stored bytes to the baseline. `Err` inside is the patch's own failure.
    pub(crate) async fn apply(
        &mut self,
        bytes: &[u8],
        blobs: &BlobCache,
    ) -> Result<Result<(), String>, PatchError> {
        let parsed = match patch::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let baseline = by_path(&self.baseline);
        let mut before = BTreeMap::new();
        for path in parsed.paths() {
            if let Some(entry) = baseline.get(path) {
                before.insert(path, (entry.mode, blobs.get(&entry.blob)?));
            }
        }
        let changes = match parsed.apply(ApplyMode::Exact, |path| before.get(path).cloned()) {
            Ok(changes) => changes,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let was_link = |path: &[u8]| baseline.get(path).is_some_and(|entry| entry.mode == GitMode::Symlink);
        write_all(&mut self.sandbox, &self.workdir, changes, was_link).await?;
        Ok(Ok(()))
    }
}

/// Applies a dataset's patch in place, as `git apply` would: context must match, lines may have moved.
pub(crate) async fn apply_in_place(
    sandbox: &mut Sandbox,
    workdir: &str,
    bytes: &[u8],
) -> Result<Result<(), String>, SandboxError> {
    let parsed = match patch::parse(bytes) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let modes: BTreeMap<Vec<u8>, GitMode> = sandbox
        .snapshot(workdir)
        .await?
        .into_iter()
        .filter_map(|entry| Some((entry.path, git_mode(entry.mode)?)))
        .collect();
    let present: Vec<Vec<u8>> =
        parsed.paths().into_iter().filter(|path| modes.contains_key(*path)).map(<[u8]>::to_vec).collect();
    let contents = sandbox.read_many(workdir, &present).await?;
    let before: BTreeMap<&[u8], (GitMode, Bytes)> = present
        .iter()
        .zip(contents)
        .map(|(path, content)| (path.as_slice(), (modes[path], content)))
        .collect();
    let changes = match parsed.apply(ApplyMode::Git, |path| before.get(path).cloned()) {
        Ok(changes) => changes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let was_link = |path: &[u8]| modes.get(path) == Some(&GitMode::Symlink);
    write_all(sandbox, workdir, changes, was_link).await?;
    Ok(Ok(()))
}

/// Writes the results of a patch: removals first, so that a folder can take a file's place and the other way round. A
/// symbolic link is replaced, not followed.
async fn write_all(
    sandbox: &mut Sandbox,
    workdir: &str,
    changes: Vec<Change>,
    was_link: impl Fn(&[u8]) -> bool,
) -> Result<(), SandboxError> {
    let place = |path: &[u8]| join(workdir, &String::from_utf8_lossy(path));
    for change in changes.iter().filter(|change| change.new.is_none() || was_link(&change.path)) {
        sandbox.remove(&place(&change.path)).await?;
    }
    for Change { path, new } in changes {
        let Some((mode, content)) = new else { continue };
        let path = place(&path);
        match mode {
            GitMode::Symlink => {
                sandbox.remove(&path).await?;
                sandbox.symlink(&path, &content).await?;
            }
            GitMode::Regular => sandbox.write(&path, &content, FileMode::Plain).await?,
            GitMode::Executable => sandbox.write(&path, &content, FileMode::Executable).await?,
        }
    }
    Ok(())
}

/// Why a patch could not be taken or put in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    /// The sandbox failed; whether that is a fault depends on evidence.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The node failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The mode of a snapshot's entry, if it is one of git's three.
fn git_mode(bits: u32) -> Option<GitMode> {
    match bits {
        0o100_644 => Some(GitMode::Regular),
        0o100_755 => Some(GitMode::Executable),
        0o120_000 => Some(GitMode::Symlink),
        _ => None,
    }
}

/// `path` below `folder`, unless it is absolute.
pub(crate) fn join(folder: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", folder.trim_end_matches('/')) }
}

fn by_path(entries: &[TreeEntry]) -> BTreeMap<Vec<u8>, TreeEntry> {
    entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
}

/// Checks a guest's snapshot and turns it into tree entries. A mode that git does not know breaks the protocol.
fn tree(snapshot: Vec<SnapshotEntry>) -> Result<Vec<TreeEntry>, Fault> {
    snapshot
        .into_iter()
        .map(|entry| {
            let mode = git_mode(entry.mode).ok_or_else(|| {
                let message = format!("the guest reported file mode {:o}", entry.mode);
                Fault::new(Blame::Node, Retry::Now, Phase::Patch, message)
            })?;
            Ok(TreeEntry { path: entry.path, mode, blob: BlobId(entry.blob) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_environments_leave_out_the_shell_s_own() {
        let env = parse_env(b"PATH=/a:/b\0SHLVL=1\0_=/usr/bin/env\0MULTI=a\nb=c\0EMPTY=\0junk\0");
        let expected = [("EMPTY", ""), ("MULTI", "a\nb=c"), ("PATH", "/a:/b")];
        assert!(env.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    }

    #[test]
    fn paths_are_joined_below_the_folder() {
        for (folder, path, joined) in [("/a", "b", "/a/b"), ("/a/", "b/c", "/a/b/c"), ("/a", "/x", "/x")] {
            assert_eq!(join(folder, path), joined);
        }
    }
}
