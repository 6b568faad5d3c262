//! The pods backend against a real cluster. Without one every test says so and passes.

#![cfg(feature = "pods")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

#[path = "docker/file_system.rs"]
mod file_system;
#[path = "pods/registry.rs"]
mod registry;
#[path = "pods/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;
use thresher_core::fault::{Blame, Phase, Retry};
use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_core::task::ImageRef;
use thresher_sandbox::conformance::{self, Verdict};
use thresher_sandbox::pods::{Pods, PodsOptions};
use thresher_sandbox::{Backend, Command, CommandEnd, Sandbox, SandboxError, SandboxSpec, StartOptions};

use file_system::tiny_file_system;
use rig::{Rig, eventually, spec, whole_cluster};

async fn bash(sandbox: &mut Sandbox, script: &str) -> String {
    let path = [("PATH".to_owned(), "/usr/bin".to_owned())].into();
    let output = sandbox.run(&Command::bash(script).env(path)).await.unwrap();
    assert!(output.end.is_success(), "{script}: {output:?}");
    String::from_utf8(output.stdout.to_vec()).unwrap().trim().to_owned()
}

fn image(reference: impl Into<String>) -> ImageRef {
    ImageRef::Registry(reference.into())
}

#[tokio::test]
async fn the_backend_conforms() {
    let Some(rig) = Rig::new().await else { return };
    let options = rig.options();
    let slot = options.slot.clone();
    let backend = Pods::connect(options).await.unwrap();
    let outcomes = conformance::all(&backend, &rig.small).await.unwrap();
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(Verdict::Shown) => {}
            Ok(Verdict::Skipped(reason)) => eprintln!("skipped: {name}: {reason}"),
            Err(deviation) => failed.push(format!("{name}: {deviation}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    backend.settle().await;
    assert!(rig.pods_of(&slot).await.is_empty());
}

#[tokio::test]
async fn what_the_identity_says_is_what_holds_inside() {
    let Some(rig) = Rig::new().await else { return };
    let backend = rig.backend().await;
    let prepared = backend.prepare(&rig.small).await.unwrap();
    let mut sandbox = backend.start(&spec(&prepared)).await.unwrap();
    let identity = sandbox.identity().clone();
    assert_eq!((identity.backend.as_str(), identity.isolation.as_str()), ("pods", "container"));
    assert_eq!((identity.memory_bytes, identity.agent_network.as_str()), (Some(256 << 20), "none"));
    assert_eq!(identity.kernel, bash(&mut sandbox, "uname -r").await);
    assert!(identity.image_digest.starts_with("sha256:"), "{identity:?}");
    assert!(identity.deviations.iter().any(|words| words.contains("network policies")), "{identity:?}");
    let status = bash(&mut sandbox, "cat /proc/self/status").await;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let effective = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_eq!(effective.count_ones() as usize, identity.capabilities.len(), "{identity:?}");
    assert_eq!(field("CapBnd:"), field("CapEff:"));
    assert_eq!((effective >> 19 & 1, effective >> 27 & 1), (0, 0), "neither SYS_PTRACE nor MKNOD");
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    assert_eq!(bash(&mut sandbox, "pwd; uname -n; ls -d /srv/tree").await, "/\nsandbox\n/srv/tree");
    assert_eq!(bash(&mut sandbox, "df -m --output=size /dev/shm | tail -n 1").await, "64");
    // Nothing of the cluster is inside: no account, and no key to the stream.
    assert_eq!(bash(&mut sandbox, "ls /var/run/secrets /run/secrets 2>/dev/null; true").await, "");
    let written =
        bash(&mut sandbox, "rm -f /.thresher/guest 2>/dev/null; : 2>/dev/null > /.thresher/x; ls /.thresher")
            .await;
    assert_eq!(written, "guest");
    sandbox.close().await.unwrap();
    backend.settle().await;
}

#[tokio::test]
async fn an_image_is_resolved_once_to_its_digest_through_the_registry_map() {
    let Some(rig) = Rig::new().await else { return };
    let name = format!("thresher-test/tagged-{}", std::process::id());
    let first = rig.registry.push(&name, "1", &tiny_file_system(b"first"), &["A=1", "PATH=/x"]).await;
    let registry_map = [("upstream.example".to_owned(), rig.registry.address.clone())].into();
    let backend = Pods::connect(PodsOptions { registry_map, ..rig.options() }).await.unwrap();
    let named = image(format!("upstream.example/{name}:1"));
    let (one, other) = tokio::try_join!(backend.prepare(&named), backend.prepare(&named)).unwrap();
    assert_eq!((&one, &one.image), (&other, &named));
    assert_eq!(one.handle, format!("{}@{}", first.strip_suffix(":1").unwrap(), one.digest));
    let env: Vec<_> = one.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=1", "PATH=/x"]);
    // A tag that moves changes nothing of what was resolved.
    rig.registry.push(&name, "1", &tiny_file_system(b"second"), &[]).await;
    let sandbox = backend.start(&spec(&one)).await.unwrap();
    assert_eq!(sandbox.identity().image_digest, one.digest);
    sandbox.close().await.unwrap();
    backend.settle().await;
}

#[tokio::test]
async fn images_that_do_not_come_are_told_apart_within_seconds() {
    let Some(rig) = Rig::new().await else { return };
    let backend = rig.backend().await;
    let fault = async |backend: &Pods, reference: &str| {
        let error = backend.prepare(&image(reference)).await.unwrap_err();
        let fault = error.fault(Phase::Pull).unwrap();
        (fault.blame, fault.retry)
    };
    let begun = Instant::now();
    let absent = format!("{}/thresher-test/absent:1", rig.registry.address);
    let away = "127.0.0.1:9/thresher-test/away:1";
    assert_eq!(fault(&backend, &absent).await, (Blame::Image, Retry::Never));
    assert_eq!(fault(&backend, "Not A Name").await, (Blame::Image, Retry::Never));
    assert_eq!(fault(&backend, away).await, (Blame::Registry, Retry::Later));
    eprintln!("three images that do not come were told apart in {:?}", begun.elapsed());
    let never = Pods::connect(PodsOptions { pull: PullPolicy::Never, ..rig.options() }).await.unwrap();
    assert_eq!(fault(&never, &absent).await, (Blame::Image, Retry::Never));
    let guestless =
        Pods::connect(PodsOptions { guest_image: absent.clone(), ..rig.options() }).await.unwrap();
    let error = guestless.prepare(&rig.small).await.unwrap_err();
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
    let error = backend.prepare(&ImageRef::Host).await.unwrap_err();
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
    for backend in [backend, never, guestless] {
        backend.settle().await;
    }
}

#[tokio::test]
async fn a_sandbox_that_no_node_takes_is_given_up_at_its_limit() {
    let Some(rig) = Rig::new().await else { return };
    let impatient = PodsOptions { schedule_limit: Duration::from_secs(1), ..rig.options() };
    let backend = Pods::connect(impatient.clone()).await.unwrap();
    let prepared = backend.prepare(&rig.small).await.unwrap();
    let limits = LimitsSpec { memory_mb: 100 << 20, ..LimitsSpec::default() };
    let error = backend.start(&SandboxSpec { limits, ..spec(&prepared) }).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NoRoom(why) if why.contains("memory")), "{error}");
    let fault = error.fault(Phase::Start).unwrap();
    assert_eq!((fault.blame, fault.retry), (Blame::Node, Retry::Later));
    let gated = json!({"schedulingGates": [{"name": "thresher.dev/test"}]});
    let queued = Pods::connect(PodsOptions { overrides: gated, ..impatient }).await.unwrap();
    let error = queued.start(&spec(&prepared)).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NoRoom(_)), "a queue that does not admit it is no room: {error}");
    let overrides = json!({"nodeSelektor": {}, "priorityClassName": "none-such"});
    let refused = Pods::connect(PodsOptions { overrides, ..rig.options() }).await.unwrap();
    let error = refused.start(&spec(&prepared)).await.unwrap_err();
    assert!(matches!(&error, SandboxError::Unsupported(why) if why.contains("none-such")), "{error}");
    for backend in [backend, queued] {
        backend.settle().await;
    }
}

#[tokio::test]
async fn closing_and_dropping_leave_nothing() {
    let Some(rig) = Rig::new().await else { return };
    let options = rig.options();
    let slot = options.slot.clone();
    let backend = Pods::connect(options).await.unwrap();
    let prepared = backend.prepare(&rig.small).await.unwrap();
    let specs = [spec(&prepared), SandboxSpec { network: Network::Full, ..spec(&prepared) }];
    let (closed, dropped) = tokio::try_join!(backend.start(&specs[0]), backend.start(&specs[1])).unwrap();
    let labels: Vec<String> =
        rig.pods_of(&slot).await.iter().map(|pod| pod.labels()["thresher.dev/network"].clone()).collect();
    assert!(labels.contains(&"none".to_owned()) && labels.contains(&"full".to_owned()), "{labels:?}");
    closed.close().await.unwrap();
    drop(dropped);
    // A start that nobody waits for any more.
    let started = tokio::time::timeout(Duration::from_millis(300), backend.start(&specs[0])).await;
    assert!(started.is_err(), "it takes longer than that");
    backend.settle().await;
    assert!(rig.pods_of(&slot).await.is_empty());
    let left = rig.config_maps().get_opt(&format!("thresher-pods-test-slot-{slot}")).await.unwrap();
    assert!(left.is_none(), "the slot's object is gone as well");
    // And it is made anew for a later sandbox.
    backend.start(&specs[0]).await.unwrap().close().await.unwrap();
    backend.settle().await;
}

#[tokio::test]
async fn what_a_dead_incarnation_left_its_slots_next_one_removes() {
    let Some(rig) = Rig::new().await else { return };
    let options = rig.options();
    let slot = options.slot.clone();
    let dead = Pods::connect(options.clone()).await.unwrap();
    let prepared = dead.prepare(&rig.small).await.unwrap();
    dead.settle().await;
    let left = dead.start(&spec(&prepared)).await.unwrap();
    let other = rig.backend().await;
    let spared = other.start(&spec(&prepared)).await.unwrap();
    let next = |incarnation: &str| {
        let start = StartOptions { incarnation: incarnation.into(), ..options.start.clone() };
        PodsOptions { start, ..options.clone() }
    };
    assert_eq!(dead.reap().await.unwrap(), 0, "its own");
    let next = Pods::connect(next("next")).await.unwrap();
    assert_eq!(next.reap().await.unwrap(), 1);
    eventually("the dead one's pod is gone", || async { rig.pods_of(&slot).await.is_empty() }).await;
    let mut sandbox = next.start(&spec(&prepared)).await.unwrap();
    assert_eq!(bash(&mut sandbox, "echo here").await, "here");
    // Whoever was taken for dead finds a fault, and no result.
    let mut left = left;
    let error = left.run(&Command::bash("true")).await.unwrap_err();
    assert!(matches!(error, SandboxError::Lost(_)), "{error}");
    spared.close().await.unwrap();
    sandbox.close().await.unwrap();
    for backend in [dead, other, next] {
        backend.settle().await;
    }
}

/// The single pod that the slot has.
async fn only_pod(rig: &Rig, slot: &str) -> Pod {
    rig.pods_of(slot).await.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).unwrap()
}

#[tokio::test]
async fn who_ended_a_sandbox_is_told_apart() {
    let Some(rig) = Rig::new().await else { return };
    for (how, from_outside) in [("deleted", true), ("evicted", true), ("deadline", true), ("itself", false)] {
        let mut options = rig.options();
        if how == "deadline" {
            options.deadline = Duration::from_secs(20);
        }
        let slot = options.slot.clone();
        let backend = Pods::connect(options).await.unwrap();
        let prepared = backend.prepare(&rig.small).await.unwrap();
        backend.settle().await;
        let mut sandbox = backend.start(&spec(&prepared)).await.unwrap();
        let (pods, name) = (rig.pods(), only_pod(&rig, &slot).await.name_any());
        match how {
            "deleted" => drop(pods.delete(&name, &DeleteParams::default()).await.unwrap()),
            "evicted" => drop(pods.evict(&name, &EvictParams::default()).await.unwrap()),
            "itself" if !end_first_process(&rig, &name).await => {
                eprintln!("skipped: the cluster's nodes are other machines, where no process can be ended");
                continue;
            }
            _ => {}
        }
        let error = sandbox.run(&Command::bash("sleep 100").timeout(Duration::from_secs(100))).await;
        let error = error.unwrap_err();
        assert_eq!(error.fault(Phase::Agent).is_some(), from_outside, "{how}: {error}");
        assert!(backend.evidence().await.is_none(), "the cluster itself is well");
        drop(sandbox);
        backend.settle().await;
    }
}

/// Ends the guest as the kernel would that is short of the sandbox's own memory: on the node, beside the cluster.
/// Returns false where this machine is not the node.
async fn end_first_process(rig: &Rig, name: &str) -> bool {
    let pod = rig.pods().get(name).await.unwrap();
    let uid = pod.uid().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let of_pod = |text: String| text.contains(&uid) || text.contains(&uid.replace('-', "_"));
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if of_pod(cgroup) && command.starts_with("/.thresher/guest\0pod\0") {
            let pid = entry.file_name().into_string().unwrap();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            return true;
        }
    }
    false
}

#[tokio::test]
async fn whoever_is_inside_cannot_cut_the_stream_off() {
    let Some(rig) = Rig::new().await else { return };
    let backend = rig.backend().await;
    let prepared = backend.prepare(&rig.small).await.unwrap();
    let mut sandbox = backend.start(&spec(&prepared)).await.unwrap();
    // Floods the guest's socket, and kills every relay that it finds.
    let attack = r#"cat > /attack.pl <<'END'
        use Socket;
        my ($hash) = do { local (@ARGV, $/) = "/proc/1/cmdline"; <> } =~ /--key-hash\0(\w{16})/;
        my $address = pack("Sa*", AF_UNIX, "\0thresher-guest-$hash");
        my ($connected, $answered, $killed, @held) = (0, 0, 0);
        for my $round (1 .. 3000) {
            socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or next;
            if (connect($socket, $address)) {
                $connected++;
                push @held, $socket;
                my ($bits, $byte) = ("", "");
                vec($bits, fileno($socket), 1) = 1;
                $answered++ if select($bits, undef, undef, 0.001) && sysread($socket, $byte, 1);
            }
            shift @held if @held > 100;
            if ($round % 500 == 0) {
                for my $process (glob "/proc/[0-9]*") {
                    open(my $file, "<", "$process/cmdline") or next;
                    my $words = <$file> // "";
                    $killed += kill("KILL", $process =~ /(\d+)/) if $words =~ /guest\0relay/;
                }
            }
        }
        print "$connected $answered $killed\n";
END
    perl /attack.pl > /attacked 2>&1 & echo begun"#;
    assert_eq!(bash(&mut sandbox, attack).await, "begun");
    let mut round = 0;
    while bash(&mut sandbox, "cat /attacked").await.is_empty() {
        round += 1;
        assert_eq!(bash(&mut sandbox, &format!("echo {round}")).await, round.to_string());
    }
    let counts = bash(&mut sandbox, "cat /attacked").await;
    let counts: Vec<u32> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 1_000 && counts[2] > 0, "{counts:?} in {round} rounds");
    assert_eq!(counts[1], 0, "nobody inside is listened to");
    sandbox.close().await.unwrap();
    backend.settle().await;
}

#[tokio::test]
async fn a_command_outlives_an_api_server_that_is_away() {
    let Some(state) = std::env::var("THRESHER_CLUSTER_STATE").ok().filter(|state| !state.is_empty()) else {
        eprintln!("skipped: no cluster of scripts/cluster whose API server could be stopped");
        return;
    };
    let Some(rig) = Rig::alone().await else { return };
    let whole = whole_cluster().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/cluster");
    let cluster = |word: &str| {
        let mut program = tokio::process::Command::new(script);
        program.args(["--state", &state, word, "apiserver"]).stdout(std::process::Stdio::null());
        async move { assert!(program.status().await.unwrap().success()) }
    };
    let backend = rig.backend().await;
    let prepared = backend.prepare(&rig.small).await.unwrap();
    let mut sandbox = backend.start(&spec(&prepared)).await.unwrap();
    let work =
        "for i in $(seq 50); do echo $i >> /count; sleep 0.1; done; wc -l < /count; seq 100000 | md5sum";
    let before = bash(&mut sandbox, "seq 100000 | md5sum").await;
    let (output, ()) = tokio::join!(bash(&mut sandbox, work), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster("stop").await;
        assert!(backend.evidence().await.is_some(), "it is seen that the API server is away");
        tokio::time::sleep(Duration::from_secs(8)).await;
        cluster("start").await;
    });
    assert_eq!(output, format!("50\n{before}"), "every step happened once, and the answer came");
    let output = sandbox.run(&Command::bash("exit 3")).await.unwrap();
    assert_eq!(output.end, CommandEnd::Exited(3));
    sandbox.close().await.unwrap();
    backend.settle().await;
    drop(whole);
}
