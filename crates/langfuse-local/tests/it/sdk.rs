//! The official Python SDK 2.60.10 and LiteLLM 1.102.4's callback, unchanged, as the judges.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Local, PUBLIC, SECRET};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An interpreter with pinned packages; made once, under `target`.
fn python(environment: &str, requirements: &str) -> PathBuf {
    let directory = repository().join("target").join(environment);
    let (python, done) = (directory.join("bin/python"), directory.join("installed"));
    let requirements = repository().join("fixtures/langfuse-sdk").join(requirements);
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    must(&mut venv, "python3 needs its venv module: apt-get install python3-venv");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    must(&mut pip, "the pinned packages must come from PyPI");
    std::fs::write(done, wanted).unwrap();
    python
}

fn must(command: &mut Command, why: &str) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{why}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a judge of `fixtures/langfuse-sdk` to its end; what it printed.
async fn judge(python: PathBuf, script: &str) -> String {
    let local = Local::start().await;
    let output = tokio::process::Command::new(python)
        .arg(repository().join("fixtures/langfuse-sdk").join(script))
        .envs([("LANGFUSE_HOST", local.server.url().as_str()), ("LANGFUSE_PUBLIC_KEY", PUBLIC)])
        .env("LANGFUSE_SECRET_KEY", SECRET)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_writes_and_reads_everything() {
    let said = judge(python("langfuse-sdk-python", "requirements.txt"), "judge.py").await;
    insta::assert_snapshot!(said, @r"
    auth ok
    trace, span, generation, event, scores ok
    fetch_traces, fetch_observations, fetch_sessions, scores, metrics ok
    datasets, items, runs ok
    prompts ok
    decorators ok
    models ok
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn litellms_own_callback_leaves_whole_traces() {
    let python = python("langfuse-litellm-python", "litellm-requirements.txt");
    // LiteLLM's feedback notice goes to standard output too.
    let said = judge(python, "litellm_callback.py").await;
    let lines: Vec<&str> = said.lines().filter(|line| line.ends_with(" ok")).collect();
    assert_eq!(
        lines,
        [
            "a call with session, name, tags, tokens, cost ok",
            "a failed call ok",
            "several calls of one trace ok",
        ]
    );
}
