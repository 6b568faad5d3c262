//! Both sides against a peer that does not keep to the protocol.

use thresher_guest::{FrameDecoder, Request, Response, RunEnd, RunReport, StreamReport, encode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A teardown with nothing to end.
struct Nothing;

#[async_trait]
impl Teardown for Nothing {
    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        Ok(())
    }

    fn handle(&self) -> &str {
        "nothing"
    }
}

fn frames(responses: &[Response]) -> Vec<u8> {
    let mut bytes = Vec::new();
    responses.iter().for_each(|response| encode_frame(response, &mut bytes).unwrap());
    bytes
}

fn end(id: u32, answer: Answer) -> Response {
    Response::End { id, outcome: Ok(answer) }
}

fn body(id: u32, bytes: &'static [u8]) -> Response {
    Response::Body { id, bytes: Bytes::from_static(bytes) }
}

fn hello_answer() -> Response {
    let info = thresher_guest::GuestInfo { version: PROTOCOL_VERSION, pid: 1, dumpable: false };
    end(1, Answer::Hello(info))
}

/// A sandbox whose guest says `said` whatever it is asked.
async fn says(said: &[u8]) -> Result<(Sandbox, DuplexStream), SandboxError> {
    let (host, mut guest) = duplex(1 << 20);
    guest.write_all(said).await.unwrap();
    let (reader, writer) = tokio::io::split(host);
    Ok((Sandbox::attach(reader, writer, SandboxIdentity::default(), Box::new(Nothing)).await?, guest))
}

#[tokio::test]
async fn a_wrong_hello_is_refused() {
    let info = thresher_guest::GuestInfo { version: PROTOCOL_VERSION, pid: 1, dumpable: false };
    for (name, said) in [
        (
            "version",
            frames(&[end(1, Answer::Hello(thresher_guest::GuestInfo { version: 0, ..info.clone() }))]),
        ),
        ("dumpable", frames(&[end(1, Answer::Hello(thresher_guest::GuestInfo { dumpable: true, ..info }))])),
        ("other answer", frames(&[end(1, Answer::Done)])),
        ("other id", frames(&[end(2, Answer::Done)])),
        ("text", b"bash: /thresher-guest: cannot execute\n".to_vec()),
        ("long frame", u32::MAX.to_le_bytes().to_vec()),
    ] {
        let refused = says(&said).await.unwrap_err();
        assert!(matches!(refused, SandboxError::Protocol(_)), "{name}: {refused}");
    }
}

#[tokio::test]
async fn wrong_answers_break_the_stream_and_only_once() {
    let report = |kept, dropped, gap| {
        let stdout = StreamReport { kept, dropped, gap };
        let stderr = StreamReport::default();
        Answer::Ran(RunReport { end: RunEnd::Exited(0), wall_us: 0, cpu_us: 0, max_rss: 0, stdout, stderr })
    };
    for (name, answer) in [
        ("more output than reported", vec![body(2, b"abc"), end(2, report(2, 0, 0))]),
        ("less output than reported", vec![body(2, b"abc"), end(2, report(4, 0, 0))]),
        ("absurd lengths", vec![end(2, report(u64::MAX, 0, 0))]),
        ("gap outside", vec![body(2, b"abc"), end(2, report(3, 1, 4))]),
        ("other answer", vec![end(2, Answer::Done)]),
        ("empty body", vec![body(2, b"")]),
        ("old id", vec![end(1, report(0, 0, 0))]),
        ("future id", vec![end(3, report(0, 0, 0))]),
        ("over the cap", vec![body(2, &[b'x'; 33]), end(2, report(33, 0, 0))]),
    ] {
        let said = [frames(&[hello_answer()]), frames(&answer)].concat();
        let (mut sandbox, _guest) = says(&said).await.unwrap();
        let refused = sandbox.run(&bash("true").output_cap(16)).await.unwrap_err();
        assert!(matches!(refused, SandboxError::Protocol(_)), "{name}: {refused}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn random_frames_never_panic_the_host() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    for _ in 0..500 {
        let mut garbage = Vec::new();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            garbage.extend(state.to_be_bytes());
        }
        let framed = [&64_u32.to_le_bytes()[..], &garbage].concat();
        for said in [garbage, framed] {
            let (mut sandbox, guest) = says(&[frames(&[hello_answer()]), said].concat()).await.unwrap();
            drop(guest);
            assert!(sandbox.snapshot("/").await.is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_guest_is_asked_to_end_the_command_and_then_given_up() {
    let (mut sandbox, mut guest) = says(&frames(&[hello_answer()])).await.unwrap();
    let refused = sandbox.run(&bash("true").timeout(Duration::from_secs(5))).await.unwrap_err();
    assert!(matches!(refused, SandboxError::Protocol(_)), "{refused}");
    let gone = sandbox.run(&bash("true")).await.unwrap_err();
    assert!(matches!(gone, SandboxError::Gone(_)), "{gone}");
    drop(sandbox);
    let mut sent = Vec::new();
    guest.read_to_end(&mut sent).await.unwrap();
    let mut decoder = FrameDecoder::default();
    decoder.push(&sent);
    let mut requests = Vec::new();
    while let Some(request) = decoder.take::<Request>().unwrap() {
        requests.push(request);
    }
    assert_eq!(requests.last(), Some(&Request::Cancel { id: 2 }));
    assert_eq!(requests.len(), 4, "hello, run, its body, cancel");
}

#[tokio::test]
async fn a_dropped_request_leaves_a_stream_that_only_closes() {
    let mut sandbox = plain().await;
    {
        let command = bash("sleep 1000");
        let run = sandbox.run(&command);
        tokio::select! {
            biased;
            _ = run => panic!("it sleeps"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(matches!(sandbox.run(&bash("true")).await, Err(SandboxError::Gone(_))));
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_command_ends_as_at_its_deadline() {
    let mut child = started();
    let (mut reader, mut writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let mut body = Vec::new();
    put_item(&command_body(&bash("sleep 1000")), &mut body).unwrap();
    let operation = Operation::Run { timeout_ms: 1_000_000, output_cap: 10, merged: true };
    let mut sent = Vec::new();
    for request in [
        Request::Start { id: 7, operation, body: body.len() as u64 },
        Request::Body(body.into()),
        // One that belongs to no request under way, and the right one.
        Request::Cancel { id: 6 },
        Request::Cancel { id: 7 },
    ] {
        encode_frame(&request, &mut sent).unwrap();
    }
    writer.write_all(&sent).await.unwrap();
    let mut decoder = FrameDecoder::default();
    let response = loop {
        match decoder.take::<Response>().unwrap() {
            Some(response) => break response,
            None => {
                let mut buffer = [0; 1024];
                let count = reader.read(&mut buffer).await.unwrap();
                assert!(count > 0);
                decoder.push(&buffer[..count]);
            }
        }
    };
    assert!(
        matches!(
            response,
            Response::End { id: 7, outcome: Ok(Answer::Ran(RunReport { end: RunEnd::TimedOut, .. })) }
        ),
        "{response:?}"
    );
    drop(writer);
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_guest_ends_on_garbage() {
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x04\0\0\0\xff\xff\xff\xff", b"\x02\0\0\0\x01\x00"] {
        let mut child = started();
        child.stdin.as_mut().unwrap().write_all(garbage).await.unwrap();
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn a_host_that_does_not_read_blocks_nobody_inside() {
    let folder = tempfile::tempdir().unwrap();
    let (large, flag) = (folder.path().join("large"), folder.path().join("flag"));
    std::fs::write(&large, vec![b'x'; 8 << 20]).unwrap();
    let mut sandbox = plain().await;
    // A background process that needs its pipe drained in order to come to its end.
    let script =
        format!("(until [ -e {0}.go ]; do sleep 0.01; done; seq 1 100000; touch {0}) & true", text(&flag));
    sandbox.run(&bash(&script)).await.unwrap();
    let path = text(&large);
    {
        // The request goes out, and its answer, larger than any pipe, is not read.
        let read = sandbox.read(&path, 100 << 20);
        tokio::select! {
            biased;
            _ = read => panic!("it takes more than one turn"),
            () = tokio::task::yield_now() => {}
        }
    }
    std::fs::write(format!("{}.go", text(&flag)), "").unwrap();
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while !flag.exists() {
        assert!(tokio::time::Instant::now() < patience, "the background process is blocked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sandbox.close().await.unwrap();
}
