//! The Docker backend against a real daemon. Without one every test says so and passes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

#[path = "docker/file_system.rs"]
mod file_system;
#[path = "docker/private_daemon.rs"]
mod private_daemon;
#[path = "docker/registry.rs"]
mod registry;
#[path = "docker/rig.rs"]
mod rig;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, PushImageOptions};
use futures::TryStreamExt;
use thresher_core::run_spec::{Network, PullPolicy};
use thresher_core::task::ImageRef;
use thresher_sandbox::conformance::{self, Verdict};
use thresher_sandbox::docker::{Docker, DockerOptions};
use thresher_sandbox::{Backend, Command, FileMode, Sandbox, SandboxError, SandboxSpec, WaterMarks};

use file_system::tiny_file_system;
use private_daemon::PrivateDaemon;
use registry::{Refusing, Registry};
use rig::{Rig, eventually, import, remove_container, remove_image, spec};

async fn bash(sandbox: &mut Sandbox, script: &str) -> String {
    let path = [("PATH".to_owned(), "/usr/bin".to_owned())].into();
    let output = sandbox.run(&Command::bash(script).env(path)).await.unwrap();
    assert!(output.end.is_success(), "{script}: {output:?}");
    String::from_utf8(output.stdout.to_vec()).unwrap().trim().to_owned()
}

fn registry_image(reference: impl Into<String>) -> ImageRef {
    ImageRef::Registry(reference.into())
}

#[tokio::test]
async fn the_backend_conforms() {
    let Some(rig) = Rig::new().await else { return };
    let outcomes = conformance::all(&rig.backend, &rig.base.image).await.unwrap();
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(Verdict::Shown) => {}
            Ok(Verdict::Skipped(reason)) => eprintln!("skipped: {name}: {reason}"),
            Err(deviation) => failed.push(format!("{name}: {deviation}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    rig.backend.settle().await;
    assert!(rig.containers().await.is_empty());
}

#[tokio::test]
async fn what_the_identity_says_is_what_holds_inside() {
    let Some(rig) = Rig::new().await else { return };
    let mut sandbox = rig.backend.start(&spec(&rig.base)).await.unwrap();
    let identity = sandbox.identity().clone();
    assert_eq!((identity.backend.as_str(), identity.isolation.as_str()), ("docker", "container"));
    assert_eq!(identity.memory_bytes, Some(512 << 20));
    assert_eq!((identity.pids, identity.shm_bytes), (Some(256), Some(64 << 20)));
    assert_eq!(identity.agent_network, "none");
    assert_eq!(identity.kernel, bash(&mut sandbox, "uname -r").await);
    assert!(identity.image_digest.starts_with("sha256:"), "{identity:?}");
    let status = bash(&mut sandbox, "cat /proc/self/status").await;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let effective = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_eq!(effective.count_ones() as usize, identity.capabilities.len(), "{identity:?}");
    assert_eq!(field("CapBnd:"), field("CapEff:"));
    assert_eq!((effective >> 19 & 1, effective >> 27 & 1), (0, 0), "neither SYS_PTRACE nor MKNOD");
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn loopback_is_up_names_resolve_and_nothing_else_is_reachable() {
    let Some(rig) = Rig::new().await else { return };
    let mut sandbox = rig.backend.start(&spec(&rig.base)).await.unwrap();
    assert_eq!(bash(&mut sandbox, "pwd; ls -d /srv/tree").await, "/\n/srv/tree");
    assert_eq!(bash(&mut sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await, "lo");
    let lookup = r#"perl -e 'print join ".", unpack "C4", scalar gethostbyname $ARGV[0] or exit 1' "#;
    assert_eq!(bash(&mut sandbox, &format!("{lookup} localhost")).await, "127.0.0.1");
    assert_eq!(bash(&mut sandbox, &format!("{lookup} \"$(uname -n)\"")).await, "127.0.1.1");
    let listens = "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die;
        IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => $s->sockport) or die; print \"joined\"'";
    assert_eq!(bash(&mut sandbox, listens).await, "joined");
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn a_task_that_asks_for_the_network_gets_the_bridge() {
    let Some(rig) = Rig::new().await else { return };
    let full = SandboxSpec { network: Network::Full, ..spec(&rig.base) };
    let mut sandbox = match rig.backend.start(&full).await {
        Ok(sandbox) => sandbox,
        // A daemon without iptables has none to give: its refusal must not read as the sandbox's own end.
        Err(error) => {
            let refused = matches!(error, SandboxError::Daemon(_) | SandboxError::Unsupported(_));
            return assert!(refused, "{error}");
        }
    };
    assert_eq!(sandbox.identity().agent_network, "full");
    assert_ne!(bash(&mut sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await, "lo");
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn closing_and_dropping_leave_nothing() {
    let Some(rig) = Rig::new().await else { return };
    let closed = rig.backend.start(&spec(&rig.base)).await.unwrap();
    let dropped = rig.backend.start(&spec(&rig.base)).await.unwrap();
    assert_eq!(rig.containers().await.len(), 2);
    closed.close().await.unwrap();
    drop(dropped);
    rig.backend.settle().await;
    assert!(rig.containers().await.is_empty());
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let Some(rig) = Rig::new().await else { return };
    let wanted = spec(&rig.base);
    // Given up when the first poll has sent the create call, and at later points.
    for polls in [1, 2, 3, 5, 8] {
        let mut start = Box::pin(rig.backend.start(&wanted));
        for _ in 0..polls {
            if futures::poll!(start.as_mut()).is_ready() {
                break;
            }
            // One round of the runtime's other work: the next poll finds the daemon's answer further on.
            rig.client.ping().await.unwrap();
        }
    }
    rig.backend.settle().await;
    assert!(rig.containers().await.is_empty());
}

#[tokio::test]
async fn derived_layers_keep_files_and_configuration_and_the_first_maker_wins() {
    let Some(rig) = Rig::new().await else { return };
    let key = format!("test-{}", rig.incarnation);
    assert_eq!(rig.backend.derived(&rig.base, &key).await.unwrap(), None);
    let wanted = spec(&rig.base);
    let (mut first, second) =
        tokio::try_join!(rig.backend.start(&wanted), rig.backend.start(&wanted)).unwrap();
    first.write("/srv/made", b"by set-up", FileMode::Executable).await.unwrap();
    let derived = rig.backend.derive(first, &rig.base, &key).await.unwrap();
    assert_eq!(rig.backend.derive(second, &rig.base, &key).await.unwrap(), derived);
    assert_eq!(rig.backend.derived(&rig.base, &key).await.unwrap().as_ref(), Some(&derived));
    assert_eq!((&derived.digest, &derived.image), (&rig.base.digest, &rig.base.image));
    let mut sandbox = rig.backend.start(&spec(&derived)).await.unwrap();
    assert_eq!(bash(&mut sandbox, "stat -c '%a %s' /srv/made").await, "755 9");
    assert_eq!(sandbox.identity().image_digest, rig.base.digest);
    sandbox.close().await.unwrap();
    let config = |image: bollard::models::ImageInspect| image.config.unwrap();
    let before = config(rig.client.inspect_image(&rig.base.handle).await.unwrap());
    let after = config(rig.client.inspect_image(&derived.handle).await.unwrap());
    assert_eq!((after.cmd, after.env), (before.cmd, before.env));
    assert_eq!(after.entrypoint.unwrap_or_default(), before.entrypoint.unwrap_or_default());
    assert_eq!(after.labels.unwrap()["thresher.owner"], "");
    rig.backend.settle().await;
    remove_image(&rig.client, &derived.handle).await;
}

#[tokio::test]
async fn an_image_removed_after_preparation_is_named() {
    let Some(rig) = Rig::new().await else { return };
    let reference = format!("thresher-test/removed:{}", rig.incarnation);
    import(&rig.client, &reference, tiny_file_system(reference.as_bytes()), &[]).await;
    let prepared = rig.backend.prepare(&registry_image(&reference)).await.unwrap();
    remove_image(&rig.client, &reference).await;
    let error = rig.backend.start(&spec(&prepared)).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NoImage { image, .. } if *image == reference), "{error}");
    // Not remembered as present: an import of the same name is found.
    import(&rig.client, &reference, tiny_file_system(b"other"), &[]).await;
    let again = rig.backend.prepare(&registry_image(&reference)).await.unwrap();
    assert_ne!(again.handle, prepared.handle);
    remove_image(&rig.client, &reference).await;
}

#[tokio::test]
async fn the_policy_never_does_not_pull() {
    if rig::daemon().await.is_none() {
        return;
    }
    let backend = Docker::connect(DockerOptions { pull: PullPolicy::Never, ..rig::options() }).await.unwrap();
    let error = backend.prepare(&registry_image("thresher-test/absent:1")).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NoImage { message, .. } if message.contains("never")), "{error}");
    let error = backend.prepare(&ImageRef::Host).await.unwrap_err();
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
}

#[tokio::test]
async fn an_image_is_pulled_once_through_the_registry_map_and_resolved_to_its_digest() {
    let Some(client) = rig::daemon().await else { return };
    let Some(registry) = Registry::start().await else { return };
    let local = format!("{}/team/pulled", registry.address);
    // Content that compresses badly and that the daemon has under no other image.
    let content: Vec<u8> = (0..200_000u64)
        .flat_map(|n| {
            (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(registry.address.port())).to_le_bytes()
        })
        .collect();
    import(&client, &format!("{local}:1"), tiny_file_system(&content), &["ENV A=1"]).await;
    let options = PushImageOptions { tag: Some("1".into()), ..Default::default() };
    client.push_image(&local, Some(options), None).try_collect::<Vec<_>>().await.unwrap();
    remove_image(&client, &format!("{local}:1")).await;
    let registry_map = [("upstream.example".to_owned(), registry.address.to_string())].into();
    let backend = Docker::connect(DockerOptions { registry_map, ..rig::options() }).await.unwrap();
    let named = registry_image("upstream.example/team/pulled:1");
    let (one, other) = tokio::try_join!(backend.prepare(&named), backend.prepare(&named)).unwrap();
    let mut pulled = [one.pulled_bytes, other.pulled_bytes];
    pulled.sort_unstable();
    assert_eq!(pulled[0], 0, "the second caller waited for the first");
    assert!(pulled[1] > 1_000_000, "{pulled:?}");
    assert_eq!((&one.handle, &one.digest), (&other.handle, &other.digest));
    assert_ne!(one.digest, one.handle, "the registry's digest, not the config's id");
    assert_eq!(one.env["A"], "1");
    assert_eq!(one.image, named, "the record has the dataset's own word");
    let by_digest = registry_image(format!("upstream.example/team/pulled@{}", one.digest));
    assert_eq!(backend.prepare(&by_digest).await.unwrap().handle, one.handle);
    for absent in ["upstream.example/team/pulled:2", "upstream.example/team/unheard-of:1"] {
        let error = backend.prepare(&registry_image(absent)).await.unwrap_err();
        assert!(matches!(error, SandboxError::NoImage { .. }), "{absent}: {error}");
    }
    let always = Docker::connect(DockerOptions { pull: PullPolicy::Always, ..rig::options() }).await.unwrap();
    let again = always.prepare(&registry_image(format!("{local}:1"))).await.unwrap();
    assert_eq!((again.handle, again.pulled_bytes), (one.handle.clone(), 0));
    remove_image(&client, &one.handle).await;
}

/// Pushes a one-file image under `reference` and forgets it here.
async fn push(client: &bollard::Docker, reference: &str, content: &[u8]) {
    import(client, reference, tiny_file_system(content), &[]).await;
    let (name, tag) = reference.rsplit_once(':').unwrap();
    let options = PushImageOptions { tag: Some(tag.into()), ..Default::default() };
    client.push_image(name, Some(options), None).try_collect::<Vec<_>>().await.unwrap();
    remove_image(client, reference).await;
}

#[tokio::test]
async fn a_locked_image_stays_what_it_was_when_its_tag_moves() {
    let Some(client) = rig::daemon().await else { return };
    let Some(registry) = Registry::start().await else { return };
    let local = format!("{}/team/locked:1", registry.address);
    push(&client, &local, format!("old {local}").as_bytes()).await;
    let registry_map = [("upstream.example".to_owned(), registry.address.to_string())].into();
    let options = DockerOptions { registry_map, ..rig::options() };
    let image = registry_image("upstream.example/team/locked:1");
    let old = Docker::connect(options.clone()).await.unwrap().prepare(&image).await.unwrap();
    remove_image(&client, &old.handle).await;
    push(&client, &local, format!("new {local}").as_bytes()).await;
    let backend = Docker::connect(options.clone()).await.unwrap();
    let new = backend.prepare(&image).await.unwrap();
    assert_ne!(new.digest, old.digest);
    // The tag's present content is on the machine, and is not what is asked for.
    let locked = backend.prepare_locked(&image, &old.digest).await.unwrap();
    assert_eq!((&locked.image, &locked.digest, &locked.handle), (&image, &old.digest, &old.handle));
    assert!(locked.pulled_bytes > 0);
    let again = Docker::connect(options).await.unwrap().prepare_locked(&image, &new.digest).await.unwrap();
    assert_eq!((again.handle, again.pulled_bytes), (new.handle.clone(), 0), "what is there is not pulled");
    let absent = format!("sha256:{}", "0".repeat(64));
    let error = backend.prepare_locked(&image, &absent).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NoImage { message, .. } if message.contains(&absent)), "{error}");
    remove_image(&client, &old.handle).await;
    remove_image(&client, &new.handle).await;
}

/// A megabyte that compresses badly, different for every seed.
fn noise(seed: u64) -> Vec<u8> {
    (0..131_072u64)
        .flat_map(|n| (n ^ seed.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

#[tokio::test]
async fn images_that_nobody_uses_go_for_others_and_only_our_own() {
    let Some(client) = rig::daemon().await else { return };
    let Some(registry) = Registry::start().await else { return };
    let named = |number: u64| format!("{}/team/cached:{number}", registry.address);
    for number in 1..=3 {
        push(&client, &named(number), &noise(u64::from(registry.address.port()) << 8 | number)).await;
    }
    let theirs = named(4);
    import(&client, &theirs, tiny_file_system(&noise(4)), &[]).await;
    let index = tempfile::tempdir().unwrap();
    let marks = WaterMarks { high_percent: 100, low_percent: 90, limit_bytes: Some(2_500_000) };
    let options = || DockerOptions { index: index.path().to_owned(), marks, ..rig::options() };
    // Two backends are as two processes: each has locks of its own.
    let (one, other) = (Docker::connect(options()).await.unwrap(), Docker::connect(options()).await.unwrap());
    let prepare = async |backend: &Docker, name: &str| backend.prepare(&registry_image(name)).await.unwrap();
    let is_there = async |name: &str| client.inspect_image(name).await.is_ok();

    drop(prepare(&one, &theirs).await);
    let first = prepare(&one, &named(1)).await;
    drop(prepare(&one, &named(2)).await);
    let third = prepare(&other, &named(3)).await;
    assert!(!is_there(&named(2)).await, "the first is older, and in use by another process");
    assert!(is_there(&named(1)).await && is_there(&named(3)).await && is_there(&theirs).await);
    let counts = other.image_counts();
    assert_eq!((counts.hits, counts.pulls, counts.evictions), (0, 1, 1));
    assert!(counts.freed_bytes > 1_000_000 && counts.pulled_bytes > 1_000_000, "{counts:?}");
    let counts = one.image_counts();
    assert_eq!((counts.hits, counts.pulls, counts.evictions), (1, 2, 0), "that of a person is a hit");

    // A container that is not ours: only the daemon knows that the image is in use.
    let body = ContainerCreateBody {
        image: Some(first.handle.clone()),
        cmd: Some(vec!["/none".into()]),
        ..Default::default()
    };
    let container = client.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    drop(first);
    let second = prepare(&one, &named(2)).await;
    assert!(second.pulled_bytes > 0, "it was removed");
    assert!(is_there(&named(1)).await && is_there(&named(3)).await, "all are in use");
    remove_container(&client, &container).await;
    drop((second, third));
    drop(prepare(&one, &named(1)).await);
    let again = prepare(&other, &named(1)).await;
    assert_eq!(again.pulled_bytes, 0);
    let fourth = format!("{}/team/other:1", registry.address);
    push(&client, &fourth, &noise(u64::from(registry.address.port()) << 8 | 5)).await;
    drop(prepare(&other, &fourth).await);
    assert!(is_there(&named(1)).await && is_there(&theirs).await);
    assert!(!is_there(&named(2)).await && !is_there(&named(3)).await, "down to the low mark");
    for name in [named(1), theirs, fourth] {
        remove_image(&client, &name).await;
    }
}

#[tokio::test]
async fn what_two_processes_want_is_pulled_once() {
    let Some(client) = rig::daemon().await else { return };
    let Some(registry) = Registry::start().await else { return };
    let name = format!("{}/team/once:1", registry.address);
    push(&client, &name, &noise(u64::from(registry.address.port()) << 8 | 9)).await;
    let index = tempfile::tempdir().unwrap();
    let options = || DockerOptions { index: index.path().to_owned(), ..rig::options() };
    let (one, other) = (Docker::connect(options()).await.unwrap(), Docker::connect(options()).await.unwrap());
    let image = registry_image(&name);
    let (a, b) = tokio::try_join!(one.prepare(&image), other.prepare(&image)).unwrap();
    assert!((a.pulled_bytes == 0) != (b.pulled_bytes == 0), "{a:?} {b:?}");
    let counts = one.image_counts() + other.image_counts();
    assert_eq!((counts.hits, counts.pulls), (1, 1));
    remove_image(&client, &name).await;
}

#[tokio::test]
async fn an_imported_image_is_locked_by_its_id() {
    let Some(rig) = Rig::new().await else { return };
    let locked = rig.backend.prepare_locked(&rig.base.image, &rig.base.digest).await.unwrap();
    assert_eq!(locked, rig.base);
}

#[tokio::test]
async fn an_imported_image_has_its_config_id_for_a_digest() {
    let Some(rig) = Rig::new().await else { return };
    assert_eq!(rig.base.digest, rig.base.handle);
    assert_eq!(rig.base.env["GREETING"], "hello");
    assert_eq!(rig.base.pulled_bytes, 0);
}

#[tokio::test]
async fn a_rate_limit_pauses_all_pulls_from_its_registry() {
    if rig::daemon().await.is_none() {
        return;
    }
    let refusing = Refusing::start().await;
    let backend = Docker::connect(rig::options()).await.unwrap();
    let prepare = async |name: &str| {
        let image = registry_image(format!("{}/{name}:1", refusing.address));
        backend.prepare(&image).await.unwrap_err()
    };
    let first = prepare("a").await;
    assert!(matches!(&first, SandboxError::RateLimited { retry_after: Some(_), .. }), "{first}");
    let requests = refusing.requests();
    assert!(requests > 0);
    let second = prepare("b").await;
    let asked = Duration::from_secs(60);
    assert!(
        matches!(&second, SandboxError::RateLimited { retry_after: Some(left), .. } if *left <= asked),
        "{second}"
    );
    assert_eq!(refusing.requests(), requests, "the registry is left alone");
}

#[tokio::test]
async fn a_registry_that_does_not_listen_is_to_blame() {
    if rig::daemon().await.is_none() {
        return;
    }
    let backend = Docker::connect(rig::options()).await.unwrap();
    let image = registry_image(format!("{}/x:1", registry::free_port()));
    let error = backend.prepare(&image).await.unwrap_err();
    assert!(matches!(error, SandboxError::Registry { .. }), "{error}");
}

#[tokio::test]
async fn a_daemon_that_is_absent_or_silent_is_named_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let connect = async |name: &str| {
        let host = format!("unix://{}", folder.path().join(name).display());
        let options = DockerOptions {
            host: Some(host.clone()),
            call_deadline: Duration::from_millis(50),
            ..DockerOptions::new(folder.path())
        };
        let Err(error) = Docker::connect(options).await else { panic!("{name} is no daemon") };
        assert!(matches!(&error, SandboxError::Daemon(text) if text.contains(&host)), "{error}");
    };
    connect("absent.sock").await;
    let _silent = tokio::net::UnixListener::bind(folder.path().join("silent.sock")).unwrap();
    connect("silent.sock").await;
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("dead.sock")).unwrap());
    connect("dead.sock").await;
}

#[tokio::test]
async fn a_sound_daemon_is_no_evidence_also_when_a_sandbox_died() {
    let Some(rig) = Rig::new().await else { return };
    let mut sandbox = rig.backend.start(&spec(&rig.base)).await.unwrap();
    remove_container(&rig.client, &rig.containers().await[0].id.clone().unwrap()).await;
    let error = sandbox.run(&Command::bash("true")).await.unwrap_err();
    assert!(matches!(error, SandboxError::Gone(_)), "{error}");
    assert!(rig.backend.evidence().await.is_none());
    sandbox.close().await.unwrap();
    let strict = Docker::connect(DockerOptions { min_free_bytes: u64::MAX, ..rig::options() }).await.unwrap();
    assert!(matches!(strict.evidence().await, Some(SandboxError::DiskFull(_))));
}

/// Set for the helper process below; its value is the address of the daemon.
const HOLD: &str = "THRESHER_TEST_HOLD_A_SANDBOX";

/// Not a test of its own: what the tests below run in a process that they kill.
#[tokio::test]
#[ignore = "a helper process: other tests start it with an environment variable set"]
async fn helper_holds_a_sandbox_until_killed() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let rig = Rig::new().await.unwrap();
    let mut sandbox = rig.backend.start(&spec(&rig.base)).await.unwrap();
    println!("holding {}", rig.incarnation);
    sandbox.run(&Command::bash("exec sleep 1000").timeout(Duration::from_secs(1000))).await.unwrap();
}

/// Starts the helper process and waits until it holds a sandbox; returns it with its incarnation.
fn holder() -> (Child, String) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_holds_a_sandbox_until_killed", "--ignored", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let incarnation =
        lines.into_iter().find_map(|line| Some(line.split_once("holding ")?.1.to_owned())).unwrap();
    (child, incarnation)
}

#[tokio::test]
async fn a_killed_runner_leaves_nothing_running_and_the_reaper_spares_the_living() {
    let Some(rig) = Rig::new().await else { return };
    let (mut runner, incarnation) = tokio::task::spawn_blocking(holder).await.unwrap();
    let label = format!("thresher.incarnation={incarnation}");
    let held = rig::containers(&rig.client, &label).await;
    let labels = held[0].labels.clone().unwrap();
    assert_eq!(held.len(), 1);
    // What a runner leaves that dies between creating and starting: nothing ends it but the reaper.
    let body = ContainerCreateBody {
        image: Some(rig.base.handle.clone()),
        labels: Some(labels),
        ..Default::default()
    };
    let created = rig.client.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let mine = rig.backend.start(&spec(&rig.base)).await.unwrap();
    rig.backend.reap().await.unwrap();
    assert_eq!(rig::containers(&rig.client, &label).await.len(), 2, "its owner lives");

    runner.kill().unwrap();
    runner.wait().unwrap();
    eventually("the running container is gone by itself", || async {
        rig::containers(&rig.client, &label)
            .await
            .iter()
            .all(|container| container.id.as_ref() == Some(&created))
    })
    .await;
    assert_eq!(rig::containers(&rig.client, &label).await.len(), 1);
    // Tests run side by side, and each reaper takes what it finds.
    rig.backend.reap().await.unwrap();
    eventually("the reaper removed it", || async { rig::containers(&rig.client, &label).await.is_empty() })
        .await;
    assert_eq!(rig.containers().await.len(), 1, "a live owner's sandbox is spared");
    mine.close().await.unwrap();
    rig.backend.settle().await;
}

#[tokio::test]
async fn a_daemon_without_a_bridge_says_so_and_one_that_dies_is_the_cause_also_after_it_came_back() {
    let Some(mut daemon) = PrivateDaemon::start().await else { return };
    let image = rig::small_image_of(&daemon.client()).await;
    let options = DockerOptions { host: Some(daemon.host()), ..rig::options() };
    let backend = Docker::connect(options).await.unwrap();
    let base = backend.prepare(&image).await.unwrap();
    let full = SandboxSpec { network: Network::Full, ..spec(&base) };
    let error = backend.start(&full).await.unwrap_err();
    assert!(matches!(&error, SandboxError::Unsupported(why) if why.contains("--bridge=none")), "{error}");
    let mut running = backend.start(&spec(&base)).await.unwrap();
    let idle = backend.start(&spec(&base)).await.unwrap();
    assert!(backend.evidence().await.is_none());

    let command = Command::bash("exec sleep 1000").timeout(Duration::from_secs(1000));
    let (error, ()) = tokio::join!(async { running.run(&command).await.unwrap_err() }, async {
        // The command is under way when its first poll is over.
        tokio::task::yield_now().await;
        daemon.kill();
    });
    assert!(matches!(error, SandboxError::Gone(_)), "{error}");
    assert!(matches!(backend.evidence().await, Some(SandboxError::Daemon(_))));
    let error = backend.start(&spec(&base)).await.unwrap_err();
    assert!(matches!(error, SandboxError::Daemon(_)), "{error}");
    let error = backend.prepare(&registry_image("other:1")).await.unwrap_err();
    assert!(matches!(error, SandboxError::Daemon(_)), "{error}");

    daemon.start_again().await;
    let evidence = backend.evidence().await;
    assert!(
        matches!(&evidence, Some(SandboxError::Daemon(text)) if text.contains("restarted")),
        "{evidence:?}"
    );
    drop((running, idle));
    backend.settle().await;
    let mut sandbox = backend.start(&spec(&base)).await.unwrap();
    assert_eq!(bash(&mut sandbox, "echo back").await, "back");
    sandbox.close().await.unwrap();
    backend.settle().await;
}
