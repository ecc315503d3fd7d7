//! What every backend must do: the same cases for memory, for `modal-local` and for Modal.
//!
//! Each case makes its own sandbox and ends it. A case panics where the backend is wrong, with what
//! it saw; call them from tests.

#![expect(clippy::unwrap_used, reason = "a case fails by panicking, as a test does")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    Error,
    backend::{Exec, Reach, Sandbox, SandboxBackend, SandboxSpec},
    capture::Capture,
    secret::Secret,
};

/// Tag of the suite's sandboxes.
const TAG: &str = "goat-conformance";
/// Longest time for any program of the suite.
const LIMIT: Duration = Duration::from_secs(60);

/// Every case, one after the other.
pub async fn all(backend: &dyn SandboxBackend) {
    reports_exit_codes(backend).await;
    keeps_outputs_apart(backend).await;
    gives_environment_and_secrets(backend).await;
    works_in_the_workspace(backend).await;
    carries_files_both_ways(backend).await;
    reads_no_pipe(backend).await;
    works_without_its_workspace(backend).await;
    kills_a_program_at_its_timeout(backend).await;
    ends_a_sandbox_with_everything_in_it(backend).await;
    ends_sandboxes_by_their_tag(backend).await;
}

/// An exit code survives the trip.
pub async fn reports_exit_codes(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    for code in [0, 7, 255] {
        assert_eq!(shell(&*sandbox, &format!("exit {code}")).await.code, code);
    }
    sandbox.terminate().await.unwrap();
}

/// Standard output and standard error are two streams, whole and in order.
pub async fn keeps_outputs_apart(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    let ran = shell(&*sandbox, "echo one ; echo two >&2 ; echo three").await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("one\nthree", "two"));
    sandbox.terminate().await.unwrap();
}

/// The sandbox's variables reach each program; a program's secret reaches it alone.
pub async fn gives_environment_and_secrets(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    let mut exec = Exec::shell("printenv COLOUR ; printenv TOKEN", LIMIT);
    exec.secrets.insert("TOKEN".into(), Secret::new("tk-conformance"));
    assert_eq!(finish(&*sandbox, &exec).await.stdout, "green\ntk-conformance");
    assert_eq!(shell(&*sandbox, "printenv TOKEN").await.code, 1);
    sandbox.terminate().await.unwrap();
}

/// Programs start in the workspace.
pub async fn works_in_the_workspace(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    assert_eq!(shell(&*sandbox, "pwd").await.stdout, "/workspace");
    sandbox.terminate().await.unwrap();
}

/// What is written is what is read, on both sides; a missing file is none.
pub async fn carries_files_both_ways(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    sandbox.write_file("/workspace/deep/er/in.txt", b"from outside").await.unwrap();
    assert_eq!(shell(&*sandbox, "cat deep/er/in.txt").await.stdout, "from outside");
    shell(&*sandbox, "echo from inside > out.txt").await;
    let read = sandbox.read_file("/workspace/out.txt", 1_000).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"from inside\n"[..]));
    let cut = sandbox.read_file("/workspace/out.txt", 4).await.unwrap();
    assert_eq!(cut.as_deref(), Some(&b"from"[..]));
    assert_eq!(sandbox.read_file("/workspace/missing", 10).await.unwrap(), None);
    sandbox.terminate().await.unwrap();
}

/// A pipe in place of a file is none, and nobody waits for it.
pub async fn reads_no_pipe(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    assert_eq!(shell(&*sandbox, "mkfifo /tmp/pipe").await.code, 0);
    let began = Instant::now();
    assert_eq!(sandbox.read_file("/tmp/pipe", 10).await.unwrap(), None);
    assert_eq!(sandbox.read_file("/tmp", 10).await.unwrap(), None, "a directory was read");
    assert!(began.elapsed() < Duration::from_secs(30), "the pipe was waited for");
    sandbox.terminate().await.unwrap();
}

/// Without the workspace nothing starts in it, which is the sandbox's own affair; what starts outside
/// of it does, and files are read.
pub async fn works_without_its_workspace(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    shell(&*sandbox, "echo kept > /tmp/kept.txt").await;
    shell(&*sandbox, "rm -rf /workspace").await;
    let inside = sandbox.exec(&Exec::shell("true", LIMIT)).await.err();
    assert!(matches!(inside, Some(Error::Refused { .. })), "{inside:?}");
    assert_eq!(finish(&*sandbox, &Exec::shell("exit 5", LIMIT).outside()).await.code, 5);
    let read = sandbox.read_file("/tmp/kept.txt", 100).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"kept\n"[..]));
    sandbox.terminate().await.unwrap();
}

/// A program that takes too long is killed by the backend, with 137; the sandbox lives on.
pub async fn kills_a_program_at_its_timeout(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    let exec = Exec::shell("sleep 50", Duration::from_secs(1));
    let began = Instant::now();
    assert_eq!(finish(&*sandbox, &exec).await.code, 137);
    assert!(began.elapsed() < Duration::from_secs(30), "it was not killed");
    assert_eq!(shell(&*sandbox, "exit 3").await.code, 3);
    sandbox.terminate().await.unwrap();
}

/// Ending a sandbox ends its programs; ending it again is no error; nothing runs in it afterwards.
pub async fn ends_a_sandbox_with_everything_in_it(backend: &dyn SandboxBackend) {
    let sandbox = sandbox(backend).await;
    let running = sandbox.exec(&Exec::shell("sleep 50", LIMIT)).await.unwrap();
    let began = Instant::now();
    sandbox.terminate().await.unwrap();
    let code = running.exit.await;
    assert!(began.elapsed() < Duration::from_secs(30), "the program outlived its sandbox");
    assert!(!matches!(code, Ok(0)), "a program that was killed reported success");
    sandbox.terminate().await.unwrap();
    assert!(sandbox.exec(&Exec::shell("exit 0", LIMIT)).await.is_err(), "it ran afterwards");
}

/// What another process left behind is found by its tag, and nothing else is.
pub async fn ends_sandboxes_by_their_tag(backend: &dyn SandboxBackend) {
    let (left, other) = (tagged(backend, "left").await, tagged(backend, "other").await);
    assert_eq!(backend.end_tagged(TAG, "left").await.unwrap(), 1);
    assert_eq!(backend.end_tagged(TAG, "left").await.unwrap(), 0);
    let after = left.exec(&Exec::shell("exit 0", LIMIT)).await;
    assert!(matches!(after, Err(Error::SandboxGone { .. } | Error::Backend { .. })));
    assert_eq!(shell(&*other, "exit 4").await.code, 4);
    other.terminate().await.unwrap();
}

async fn sandbox(backend: &dyn SandboxBackend) -> Box<dyn Sandbox> {
    tagged(backend, "any").await
}

async fn tagged(backend: &dyn SandboxBackend, tag: &str) -> Box<dyn Sandbox> {
    let spec = SandboxSpec {
        tags: BTreeMap::from([(TAG.into(), tag.into())]),
        results: None,
        env: BTreeMap::from([("COLOUR".into(), "green".into())]),
        timeout: 2 * LIMIT,
        reach: Reach::Nothing,
        skills: false,
        mcp: false,
    };
    backend.create(&spec).await.unwrap()
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

async fn shell(sandbox: &dyn Sandbox, command: &str) -> Ran {
    finish(sandbox, &Exec::shell(command, LIMIT)).await
}

async fn finish(sandbox: &dyn Sandbox, exec: &Exec) -> Ran {
    let running = sandbox.exec(exec).await.unwrap();
    let (stdout, stderr) = (Capture::default(), Capture::default());
    let ignore = async |_: String| {};
    let (out, err, code) = tokio::join!(
        stdout.fill(running.stdout, None, ignore),
        stderr.fill(running.stderr, None, ignore),
        running.exit
    );
    out.unwrap();
    err.unwrap();
    Ran { code: code.unwrap(), stdout: stdout.text(None), stderr: stderr.text(None) }
}
