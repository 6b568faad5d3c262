//! The embedded backend on this machine. Variants that the machine refuses are skipped, and the reason is printed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

#[path = "embedded/container.rs"]
mod container;
#[path = "embedded/image.rs"]
mod image;
#[path = "docker/registry.rs"]
mod registry;
#[path = "embedded/rig.rs"]
mod rig;

use std::path::Path;
use std::time::Instant;

use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_core::task::ImageRef;
use thresher_sandbox::embedded::{Embedded, EmbeddedOptions, Isolation, RegistryOptions, probe};
use thresher_sandbox::{Backend, Prepared, SandboxError, SandboxSpec, StartOptions, WaterMarks};

use registry::{Refusing, Registry};

use container::Data;
use rig::{Keeper, bash, eventually, fails, is_running, mark, names, says, spec};

fn options(data: &Path, isolation: Isolation) -> EmbeddedOptions {
    EmbeddedOptions {
        data: data.to_owned(),
        isolation,
        start: rig::start_options(),
        ..EmbeddedOptions::default()
    }
}

/// Every variant that this machine allows, each over a data folder of its own.
async fn variants() -> Vec<(tempfile::TempDir, Embedded)> {
    variants_with(None).await
}

async fn variants_with(images: Option<&Path>) -> Vec<(tempfile::TempDir, Embedded)> {
    let mut found = Vec::new();
    for isolation in [Isolation::Root, Isolation::User] {
        let data = tempfile::tempdir().unwrap();
        let images = images.map(Path::to_owned);
        match Embedded::open(EmbeddedOptions { images, ..options(data.path(), isolation) }).await {
            Ok(backend) => found.push((data, backend)),
            Err(error) => println!("skipped {isolation:?}: {error}"),
        }
    }
    if let Ok(only) = std::env::var(container::ISOLATION) {
        assert!(found.len() == 1 && found[0].1.isolation() == only, "{only} alone are expected");
    }
    found
}

fn is_on_overlay(folder: &Path) -> bool {
    const OVERLAY: u64 = 0x794c_7630;
    rustix::fs::statfs(folder).unwrap().f_type as u64 == OVERLAY
}

async fn host_spec(backend: &Embedded) -> SandboxSpec {
    spec(backend.prepare(&ImageRef::Host).await.unwrap())
}

#[tokio::test]
async fn the_probe_finds_what_can_be_had() {
    let data = tempfile::tempdir().unwrap();
    let report = probe(data.path()).await.unwrap();
    println!("{report:?}");
    assert_eq!(report.advice().is_none(), report.has_isolation());
    assert_eq!(names(&data.path().join("live")), Vec::<String>::new());
}

#[tokio::test]
async fn the_conformance_suite_holds() {
    for (_data, backend) in variants().await {
        rig::conforms(&backend, backend.isolation()).await;
    }
}

#[tokio::test]
async fn nothing_of_the_machine_is_visible() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        let expected = [
            "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "testbed",
            "tmp", "usr", "var",
        ];
        let top = says(&mut sandbox, "ls -A /").await;
        assert!(top.lines().all(|name| expected.contains(&name)), "{top}");
        assert_eq!(says(&mut sandbox, "ls -A /root /tmp /var/tmp /run").await.matches(' ').count(), 0);
        for path in
            ["/home", "/opt", "/srv", "/mnt", "/root/.ssh", "/etc/shadow", "/etc/ssh", "/etc/ssl/private"]
        {
            fails(&mut sandbox, &format!("test -e {path}")).await;
        }
        if !sandbox.identity().deviations.iter().any(|deviation| deviation.starts_with("/proc")) {
            let processes = says(&mut sandbox, "echo /proc/[0-9]*").await;
            assert!(processes.split(' ').count() <= 4, "{processes}");
        }
        assert_eq!(says(&mut sandbox, "pwd; hostname").await, "/testbed\nsandbox");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn root_inside_cannot_change_the_machine() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        for script in [
            "echo x > /proc/sys/kernel/core_pattern",
            "echo x > /usr/bin/thresher-was-here",
            "echo x > /proc/1/oom_score_adj",
            "mount -t tmpfs none /tmp",
            "mknod /tmp/disk b 254 0",
            "hostname changed",
            "cat /proc/1/environ",
            "readlink /proc/1/fd/0",
            "echo x > /proc/1/fd/1",
            "cat /proc/kcore | head -c 1 | grep -q .",
        ] {
            fails(&mut sandbox, script).await;
        }
        bash(&mut sandbox, "kill -9 -1").await;
        assert_eq!(
            says(&mut sandbox, "grep NoNewPrivs /proc/self/status; echo alive").await,
            "NoNewPrivs:\t1\nalive"
        );
        let status = says(&mut sandbox, "grep -E 'CapEff|CapBnd' /proc/self/status").await;
        for line in status.lines() {
            let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            assert_eq!(mask.count_ones() as usize, sandbox.identity().capabilities.len(), "{line}");
        }
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn only_loopback_is_there_and_it_is_up() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        assert_eq!(says(&mut sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1").await, "lo");
        let script = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") \
                      or die; IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => $s->sockport) or die'";
        says(&mut sandbox, script).await;
        sandbox.close().await.unwrap();
        let spec = SandboxSpec { network: Network::Full, ..host_spec(&backend).await };
        let sandbox = backend.start(&spec).await.unwrap();
        assert_eq!(sandbox.identity().agent_network, "full");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_the_sandboxes_own() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        let output = bash(&mut sandbox, "head -c 200M /dev/zero > big").await;
        assert!(String::from_utf8_lossy(&output.stdout).contains("No space left"), "{output:?}");
        assert_eq!(says(&mut sandbox, "rm big && echo x > small && cat small").await, "x");
        assert!(backend.evidence().await.is_none());
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn processes_are_limited_where_the_identity_says_so() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        if sandbox.identity().pids.is_none() {
            println!("skipped: {:?}", sandbox.identity().deviations);
            continue;
        }
        let output = bash(&mut sandbox, "for i in $(seq 200); do sleep 100 & done").await;
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("Resource temporarily unavailable"),
            "{output:?}"
        );
        sandbox.kill_all().await.unwrap();
        says(&mut sandbox, "true").await;
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn memory_is_limited_where_the_identity_says_so() {
    for (_data, backend) in variants().await {
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        if sandbox.identity().memory_bytes.is_none() {
            println!("skipped: {:?}", sandbox.identity().deviations);
            continue;
        }
        fails(&mut sandbox, "perl -e '$x = \"x\" x (1 << 30); print length $x'").await;
        assert_eq!(says(&mut sandbox, "echo alive").await, "alive", "the guest outlives what it started");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_derived_layer_holds_what_was_written_and_removed() {
    for (data, backend) in variants().await {
        let base = backend.prepare(&ImageRef::Host).await.unwrap();
        assert_eq!(backend.derived(&base, "set-up").await.unwrap(), None);
        let mut sandbox = backend.start(&spec(base.clone())).await.unwrap();
        says(
            &mut sandbox,
            "mkdir -p /opt/deep && echo first > /opt/deep/file && echo x > gone && ln -s file link",
        )
        .await;
        let first = backend.derive(sandbox, &base, "set-up").await.unwrap();
        assert_eq!(backend.derived(&base, "set-up").await.unwrap(), Some(first.clone()));

        let mut sandbox = backend.start(&spec(first.clone())).await.unwrap();
        assert_eq!(says(&mut sandbox, "cat /opt/deep/file gone; readlink link").await, "first\nx\nfile");
        says(&mut sandbox, "rm gone && rm -r /opt/deep && mkdir /opt/deep && echo second > /opt/deep/other")
            .await;
        let second = match backend.derive(sandbox, &first, "more").await {
            Err(SandboxError::Unsupported(why)) if why.contains("on an overlay") => {
                return println!("skipped: {why}");
            }
            other => other.unwrap(),
        };

        let mut sandbox = backend.start(&spec(second)).await.unwrap();
        assert_eq!(says(&mut sandbox, "ls /opt/deep").await, "other");
        fails(&mut sandbox, "test -e gone").await;
        sandbox.close().await.unwrap();
        let mut sandbox = backend.start(&spec(first)).await.unwrap();
        assert_eq!(
            says(&mut sandbox, "ls /opt/deep; cat gone").await,
            "file\nx",
            "layers below do not change"
        );
        sandbox.close().await.unwrap();
        assert_eq!(names(&data.path().join("tmp")), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_image_of_an_archive_runs() {
    let images = tempfile::tempdir().unwrap();
    image::write(images.path(), "small:1");
    for (data, backend) in variants_with(Some(images.path())).await {
        if !rustix::process::geteuid().is_root() {
            let error = backend.prepare(&ImageRef::Registry("small:1".into())).await.unwrap_err();
            assert!(error.to_string().contains("several users"), "{error}");
            continue;
        }
        if is_on_overlay(data.path()) {
            println!("skipped: the data folder is among a container's own files");
            continue;
        }
        runs_the_small_image(&backend).await;
    }
}

async fn runs_the_small_image(backend: &Embedded) {
    let reference = ImageRef::Registry("docker.io/library/small:1".into());
    let prepared = backend.prepare(&reference).await.unwrap();
    assert!(prepared.pulled_bytes > 0 && prepared.digest.starts_with("sha256:"), "{prepared:?}");
    assert_eq!(prepared.env["FLAVOUR"], "small");
    assert_eq!(backend.prepare(&reference).await.unwrap().pulled_bytes, 0);

    let mut sandbox = backend.start(&spec(prepared.clone())).await.unwrap();
    assert_eq!(says(&mut sandbox, "ls /data /opaque").await, "/data:\nkept\n\n/opaque:\nhigh");
    assert_eq!(
        says(&mut sandbox, "stat -c '%u %a' /data/kept /usr/bin/rm; pwd").await,
        "1234 640\n0 755\n/testbed"
    );
    assert_eq!(says(&mut sandbox, "cat /etc/hostname; rm /data/kept; echo new > /data/new").await, "sandbox");
    says(&mut sandbox, "rm -r /opaque && mkdir /opaque && chown 77:78 /opaque /data/new").await;
    let changed = backend.derive(sandbox, &prepared, "changed").await.unwrap();
    for (prepared, expected) in
        [(changed, "/data:\nnew\n\n/opaque:"), (prepared, "/data:\nkept\n\n/opaque:\nhigh")]
    {
        let mut sandbox = backend.start(&spec(prepared)).await.unwrap();
        assert_eq!(says(&mut sandbox, "ls /data /opaque").await, expected);
        if expected.contains("new") {
            assert_eq!(says(&mut sandbox, "stat -c '%u:%g' /data/new /opaque").await, "77:78\n77:78");
        }
        sandbox.close().await.unwrap();
    }
}

/// Backends over one data folder with this limit, each with locks of its own, as two processes have them.
async fn two_over(data: &Path, images: &Path, marks: WaterMarks) -> Option<[Embedded; 2]> {
    let open = async |incarnation: &str| {
        let start = StartOptions { incarnation: incarnation.into(), ..rig::start_options() };
        let images = Some(images.to_owned());
        Embedded::open(EmbeddedOptions { images, marks, start, ..options(data, Isolation::Root) }).await
    };
    match (open("one").await, open("other").await) {
        (Ok(one), Ok(other)) => Some([one, other]),
        (Err(error), _) | (_, Err(error)) => {
            println!("skipped: {error}");
            None
        }
    }
}

const EXTRA: usize = 4 << 20;

#[tokio::test]
async fn images_that_nobody_uses_go_for_others() {
    let (data, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sizes = ["a", "b", "c"].map(|name| image::write_larger(images.path(), name, EXTRA));
    let (_, shared) = sizes[0];
    // What they share counts once, and there is room for two of what they do not.
    let limit = shared + 5 * EXTRA as u64 / 2;
    let marks = WaterMarks { high_percent: 100, low_percent: 99, limit_bytes: Some(limit) };
    let Some([one, other]) = two_over(data.path(), images.path(), marks).await else { return };
    let prepare = async |backend: &Embedded, name: &str| {
        backend.prepare(&ImageRef::Registry(name.into())).await.unwrap()
    };

    let a = prepare(&one, "a").await;
    let mut sandbox = one.start(&spec(a)).await.unwrap();
    drop(prepare(&one, "b").await);
    let c = prepare(&other, "c").await;
    let counts = other.image_counts();
    assert_eq!((counts.hits, counts.pulls, counts.evictions), (0, 1, 1), "b goes: a is older, and in use");
    assert!(counts.freed_bytes >= EXTRA as u64 && counts.freed_bytes < shared, "{counts:?}");
    assert_eq!(says(&mut sandbox, "read -N 3 -r word < /extra; echo $word").await, "aaa");
    assert!(prepare(&other, "a").await.pulled_bytes == 0);
    let b = prepare(&one, "b").await;
    assert!(b.pulled_bytes >= EXTRA as u64, "it was gone");
    assert_eq!(one.image_counts().evictions, 0, "all are in use");

    // What is derived is used with its base, and a base for as long as what was derived from it.
    let derived = one.derive(one.start(&spec(c.clone())).await.unwrap(), &c, "key").await.unwrap();
    drop((b, c));
    sandbox.close().await.unwrap();
    drop(prepare(&other, "b").await);
    drop(prepare(&other, "a").await);
    let mut derived = one.start(&spec(derived)).await.unwrap();
    assert_eq!(says(&mut derived, "read -N 3 -r word < /extra; echo $word").await, "ccc");
    derived.close().await.unwrap();
    assert!(names(&data.path().join("tmp")).is_empty());
}

/// A small file system of its own on memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said, where this process may not mount.
    fn mount(bytes: u64) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.mount_with(&format!("size={bytes}"), "none").then_some(disk)
    }

    fn resize(&self, bytes: u64) {
        assert!(self.mount_with(&format!("remount,size={bytes}"), "none"));
    }

    fn mount_with(&self, options: &str, source: &str) -> bool {
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", options, source]).arg(self.0.path()).status();
        let done = done.is_ok_and(|status| status.success());
        if !done {
            println!("skipped: no file system can be mounted");
        }
        done
    }

    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.0.path()).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_gets_room_before_it_is_a_fault() {
    let images = tempfile::tempdir().unwrap();
    let sizes = ["a", "b", "c"].map(|name| image::write_larger(images.path(), name, EXTRA));
    let Some(disk) = SmallDisk::mount(8 * sizes[0].0) else { return };
    // Marks that are never passed: only a failure makes room.
    let marks = WaterMarks { high_percent: 100, low_percent: 99, limit_bytes: None };
    let Some([one, other]) = two_over(disk.0.path(), images.path(), marks).await else { return };
    let prepare =
        async |backend: &Embedded, name: &str| backend.prepare(&ImageRef::Registry(name.into())).await;
    let a = prepare(&one, "a").await.unwrap();
    let b = prepare(&one, "b").await.unwrap();
    disk.resize(disk.used() + EXTRA as u64 / 2);
    let error = prepare(&other, "c").await.unwrap_err();
    assert!(matches!(error, SandboxError::DiskFull(_)), "nothing may go: {error}");
    assert!(names(&disk.0.path().join("tmp")).is_empty());
    drop(a);
    let c = prepare(&other, "c").await.unwrap();
    assert_eq!((other.image_counts().evictions, other.image_counts().pulls), (1, 1));
    drop((b, c));
    assert!(prepare(&one, "a").await.unwrap().pulled_bytes > 0, "it went for c");
}

/// Puts the small image into a registry and returns its reference there.
async fn push(registry: &Registry) -> String {
    let reference = format!("{}/team/small:1", registry.address);
    let (config, layers) = image::parts();
    let protocol = oci_client::client::ClientProtocol::Http;
    let config = oci_client::client::Config::oci_v1(config, None);
    let layers = layers.map(|layer| oci_client::client::ImageLayer::oci_v1(layer, None));
    oci_client::Client::new(oci_client::client::ClientConfig { protocol, ..Default::default() })
        .push(
            &reference.parse().unwrap(),
            &layers,
            config,
            &oci_client::secrets::RegistryAuth::Anonymous,
            None,
        )
        .await
        .unwrap();
    reference
}

#[tokio::test]
async fn an_image_that_is_not_here_is_pulled_once() {
    let Some(registry) = Registry::start().await else { return };
    let data = tempfile::tempdir().unwrap();
    let address = registry.address.to_string();
    let open = async |pull: PullPolicy| {
        let map = [("upstream.example".to_owned(), address.clone())].into();
        let options = RegistryOptions { pull, map, insecure: Vec::new() };
        Embedded::open(EmbeddedOptions { registry: Some(options), ..options_of(&data) }).await
    };
    let backend = match open(PullPolicy::Missing).await {
        Ok(backend) => backend,
        Err(error) => return println!("skipped: {error}"),
    };
    let pushed = push(&registry).await;
    let named = ImageRef::Registry(pushed.replace(&address, "upstream.example"));
    let other = open(PullPolicy::Missing).await.unwrap();
    let (prepared, again) = tokio::try_join!(backend.prepare(&named), other.prepare(&named)).unwrap();
    let (prepared, again) = if again.pulled_bytes > 0 { (again, prepared) } else { (prepared, again) };
    assert_eq!(again.pulled_bytes, 0, "the second process waited for the first");
    let counts = backend.image_counts() + other.image_counts();
    assert_eq!((counts.hits, counts.pulls, counts.pulled_bytes), (1, 1, prepared.pulled_bytes));
    assert!(prepared.pulled_bytes > 1 << 20 && prepared.digest.starts_with("sha256:"), "{prepared:?}");
    assert_eq!(prepared.env["FLAVOUR"], "small");
    let mut sandbox = backend.start(&spec(prepared.clone())).await.unwrap();
    assert_eq!(
        says(&mut sandbox, "stat -c '%u %a' /data/kept; ls /data /opaque").await.lines().next(),
        Some("1234 640")
    );
    sandbox.close().await.unwrap();

    let by_digest = ImageRef::Registry(format!("upstream.example/team/small@{}", prepared.digest));
    let by_digest = backend.prepare(&by_digest).await.unwrap();
    assert!(by_digest.digest == prepared.digest && by_digest.pulled_bytes < 10_000, "{by_digest:?}");
    for absent in ["upstream.example/team/small:2", "upstream.example/team/none:1", "not a reference"] {
        let error = backend.prepare(&ImageRef::Registry(absent.into())).await.unwrap_err();
        assert!(matches!(error, SandboxError::NoImage { .. }), "{absent}: {error:?}");
    }
    drop(registry);
    let later = open(PullPolicy::Never).await.unwrap();
    assert_eq!(later.prepare(&named).await.unwrap(), Prepared { pulled_bytes: 0, ..prepared });
    let error = open(PullPolicy::Always).await.unwrap().prepare(&named).await.unwrap_err();
    assert!(matches!(error, SandboxError::Registry { .. }), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_asks_for_fewer_requests_is_no_missing_image() {
    let (data, refusing) = (tempfile::tempdir().unwrap(), Refusing::start().await);
    let options = EmbeddedOptions { registry: Some(RegistryOptions::default()), ..options_of(&data) };
    let backend = match Embedded::open(options).await {
        Ok(backend) => backend,
        Err(error) => return println!("skipped: {error}"),
    };
    let image = ImageRef::Registry(format!("{}/a:1", refusing.address));
    let error = backend.prepare(&image).await.unwrap_err();
    assert!(matches!(error, SandboxError::RateLimited { .. }) && refusing.requests() > 0, "{error:?}");
}

fn options_of(data: &tempfile::TempDir) -> EmbeddedOptions {
    options(data.path(), Isolation::Root)
}

#[tokio::test]
async fn nobody_inside_reads_what_the_runner_keeps() {
    // Prints what of any process but the sandbox's own can be opened. Its own are those that share its root.
    let script = "read -r _ _ _ guest _ < /proc/self/stat; for process in /proc/[0-9]*; do
        [ $process/root/ -ef / ] && continue
        for file in environ auxv maps io syscall mem root/ cwd/ exe fd/0 fd/1 fd/2 task/${process#/proc/}/environ; do
            case $file in
                */) ls $process/$file > /dev/null 2>&1 && echo $process/$file ;;
                fd/*|exe) readlink $process/$file ;;
                mem) (: < $process/$file) 2>/dev/null && echo $process/$file ;;
                *) head -c 1 $process/$file 2>/dev/null | grep -qa . && echo $process/$file ;;
            esac
        done
        [ $process = /proc/$guest ] && continue
        (echo 1000 > $process/oom_score_adj) 2>/dev/null && echo $process/oom_score_adj
    done; true";
    for (_data, backend) in variants().await {
        // A process of the runner's, with a secret as the runner itself has them.
        let keeper = Keeper::start();
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        let mut other = backend.start(&host_spec(&backend).await).await.unwrap();
        says(&mut other, "(KEY=of-another-sandbox setsid sleep 1000 > /dev/null 2>&1 &)").await;
        assert_eq!(says(&mut sandbox, script).await, "");
        let found = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c ^KEY=; true";
        assert_eq!(says(&mut sandbox, found).await, "0");
        other.close().await.unwrap();
        sandbox.close().await.unwrap();
        drop(keeper);
    }
}

#[tokio::test]
async fn everything_holds_in_a_container_without_privileges() {
    if std::env::var(container::ISOLATION).is_ok() || !container::is_possible() {
        return;
    }
    let only = format!("{}=user_namespaces", container::ISOLATION);
    let tests = ["/program", "--test-threads", "2", "--nocapture"];
    let unconfined =
        ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "-e", &only];
    for (options, data) in [
        (&[][..], Data::Memory),
        (&["--security-opt", "no-new-privileges"], Data::Volume),
        (&["--security-opt", "systempaths=unconfined"], Data::Volume),
        (&[], Data::Own),
    ] {
        let output = container::run(&[&unconfined, options].concat(), data, &tests);
        let words = container::words(&output);
        println!("{data:?} {options:?}: {words}");
        assert!(output.status.success(), "{data:?} {options:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_setting() {
    if std::env::var(container::ISOLATION).is_ok() || !container::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("hosts");
    std::fs::write(&pod, "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n").unwrap();
    let hosts = format!("{}:/etc/hosts", pod.display());
    let free = ["--security-opt", "seccomp=unconfined"];
    let filtered = [][..].as_ref();
    for (options, data, machine, in_pod) in [
        (filtered, Data::Volume, "--security-opt seccomp=unconfined", "seccompProfile: {type: Unconfined}"),
        (
            &[&free[..], &["--cap-drop", "SETUID"]].concat(),
            Data::Volume,
            "--cap-add SETUID",
            "capabilities.add: [SETUID]",
        ),
        (&[&free[..], &["--user", "1000"]].concat(), Data::Memory, "run as root", "runAsUser: 0"),
        (&free, Data::Own, "put the data folder on a volume", "mount an emptyDir at /data"),
    ] {
        for (place, expected) in [(&[][..], machine), (&["-v", &hosts], in_pod)] {
            let test = ["/program", "--exact", "the_probe_finds_what_can_be_had", "--nocapture"];
            let words = container::words(&container::run(&[options, place].concat(), data, &test));
            assert!(words.contains(expected), "{options:?} {place:?}: {words}");
        }
    }
}

#[tokio::test]
async fn closing_and_dropping_leave_nothing() {
    let mut number = 0;
    for (data, backend) in variants().await {
        for is_closed in [true, false] {
            number += 1;
            let word = mark(number);
            let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
            says(&mut sandbox, &format!("(setsid sleep {word} >/dev/null 2>&1 &)")).await;
            eventually("the process starts", || is_running(&word)).await;
            match is_closed {
                true => {
                    sandbox.close().await.unwrap();
                    assert!(!is_running(&word), "closing waits for the end");
                }
                false => drop(sandbox),
            }
            eventually("the processes end", || !is_running(&word)).await;
        }
        let launcher = data.path().join("guest").display().to_string();
        eventually("the launchers end", || !is_running(&launcher)).await;
        backend.reap().await.unwrap();
        assert_eq!(rig::mounts_below(data.path()), Vec::<String>::new());
        let own = format!("{}.{}", rig::start_options().incarnation, backend.isolation());
        eventually("the cgroups go", || rig::cgroups_of(&own).is_empty()).await;
        assert_eq!(names(&data.path().join("tmp")), Vec::<String>::new());
        assert_eq!(names(&data.path().join("mnt")), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_killed_runner_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let backend = match Embedded::open(options(data.path(), Isolation::Best)).await {
        Ok(backend) => backend,
        Err(error) => return println!("skipped: {error}"),
    };
    let word = mark(90);
    let mut holder = rig::start_holder(data.path(), &word);
    eventually("the processes start", || is_running(&word)).await;
    assert_eq!(backend.reap().await.unwrap(), 0, "a living runner's sandboxes are spared");
    eventually("the processes start", || is_running(&word)).await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the processes end", || !is_running(&word)).await;
    backend.reap().await.unwrap();
    assert_eq!(rig::cgroups_of(&format!("holder{word}")), Vec::<String>::new());
    assert_eq!(rig::mounts_below(data.path()), Vec::<String>::new());
    assert_eq!(names(&data.path().join("live")), [rig::start_options().incarnation]);
}

/// Not a test in itself: what [`a_killed_runner_leaves_nothing`] kills.
#[tokio::test]
async fn holder() {
    let Some((data, word)) = rig::holder_arguments() else { return };
    let start = StartOptions { run: "test".into(), incarnation: format!("holder{word}") };
    let options = EmbeddedOptions { start, ..options(Path::new(&data), Isolation::Best) };
    let backend = Embedded::open(options).await.unwrap();
    rig::hold(&backend, &host_spec(&backend).await, &word).await;
}

#[tokio::test]
async fn starting_and_stopping_is_measured() {
    const ROUNDS: usize = 60;
    for (_data, backend) in variants().await {
        let spec = SandboxSpec { limits: LimitsSpec::default(), ..host_spec(&backend).await };
        let (mut starts, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let sandbox = backend.start(&spec).await.unwrap();
            starts.push(begin.elapsed());
            let begin = Instant::now();
            sandbox.close().await.unwrap();
            stops.push(begin.elapsed());
        }
        starts.sort();
        stops.sort();
        let isolation = backend.isolation();
        println!("{isolation}: start {:?}, stop {:?} (median)", starts[ROUNDS / 2], stops[ROUNDS / 2]);
    }
}
