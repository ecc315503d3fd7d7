//! The official Python SDK 2.60.10, unchanged, as the judge.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Local, PUBLIC, SECRET};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The interpreter with the SDK; made once, under `target`.
fn python() -> PathBuf {
    let directory = repository().join("target/langfuse-sdk-python");
    let (python, done) = (directory.join("bin/python"), directory.join("installed"));
    if done.is_file() {
        return python;
    }
    must(
        Command::new("python3").args(["-m", "venv"]).arg(&directory),
        "python3 needs its venv module",
    );
    let requirements = repository().join("fixtures/langfuse-sdk/requirements.txt");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    must(&mut pip, "the pinned SDK must come from PyPI");
    std::fs::write(done, "").unwrap();
    python
}

fn must(command: &mut Command, why: &str) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{why}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_writes_and_reads_everything() {
    let local = Local::start().await;
    let output = tokio::process::Command::new(python())
        .arg(repository().join("fixtures/langfuse-sdk/judge.py"))
        .envs([("LANGFUSE_HOST", local.server.url().as_str()), ("LANGFUSE_PUBLIC_KEY", PUBLIC)])
        .env("LANGFUSE_SECRET_KEY", SECRET)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    insta::assert_snapshot!(stdout, @r"
    auth ok
    trace, span, generation, event, scores ok
    fetch_traces, fetch_observations, fetch_sessions, scores, metrics ok
    datasets, items, runs ok
    prompts ok
    decorators ok
    models ok
    ");
}
