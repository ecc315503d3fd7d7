//! How runs end besides an answer or a broken model, and that nothing is left behind.

use serde_json::json;

use crate::support::{Agent, Model, Reply};

fn bash(command: &str) -> (&'static str, String) {
    ("Bash", json!({"command": command}).to_string())
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn used_up_turns_have_a_code_of_their_own_and_the_last_calls_are_carried_out() {
    let model = Model::start([
        Reply::Calls("", vec![bash("echo 1 > one")]),
        Reply::Calls("Still busy.", vec![bash("echo 2 > two")]),
    ])
    .await;
    let run = Agent::new(&model).prompt("go").args(&["-max-turns", "2"]).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), "Still busy."), "{}", run.stderr);
    assert!(run.agent.path("one").exists() && run.agent.path("two").exists());
    let summary = run.summary();
    assert_eq!((&summary["outcome"], &summary["turns"]), (&json!("turns_used_up"), &json!(2)));
    assert_eq!(summary["error"], "no answer within 2 turns");
}

#[tokio::test]
async fn the_time_limit_ends_a_run() {
    let model = Model::start([Reply::Hangs]).await;
    let run = Agent::new(&model).prompt("go").args(&["--timeout", "0.3"]).run().await;
    assert_eq!(run.code, Some(5), "{}", run.stderr);
    let end = run.events().pop().unwrap();
    assert_eq!((&end["event"], &end["outcome"]), (&json!("end"), &json!("timed_out")));
    assert_eq!(run.summary()["error"], "no answer within 0.3 seconds");
}

#[tokio::test]
async fn nothing_that_a_tool_started_is_left() {
    let hidden = "setsid sh -c '(trap \"\" TERM; echo $$ > daemon; while :; do sleep 1; done) >/dev/null 2>&1 &'; \
                  sleep 1000 & echo $! > plain; while [ ! -s daemon ]; do sleep 0.01; done";
    let background = json!({"command": "echo $$ > background; echo text; sleep 1000", "run_in_background": true});
    let model = Model::start([
        Reply::Calls("", vec![bash(hidden), ("Bash", background.to_string())]),
        Reply::Calls("", vec![bash("while [ ! -s background ]; do sleep 0.01; done")]),
        Reply::Text("done"),
    ])
    .await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for name in ["plain", "daemon", "background"] {
        let pid = std::fs::read_to_string(run.agent.path(name)).unwrap();
        assert!(!runs(&pid), "{name} goes on");
    }
    let left: Vec<_> = std::fs::read_dir(run.agent.files.path())
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert_eq!(left.len(), 2, "only transcript and summary: {left:?}");
}

#[tokio::test]
async fn a_run_that_cannot_start_says_why() {
    let model = Model::start([]).await;
    let run = Agent::new(&model).run().await;
    assert_eq!((run.code, run.summary()["outcome"].as_str()), (Some(1), Some("usage_error")));
    assert_eq!(
        run.stderr,
        "goat-eval: no prompt: give `--prompt TEXT`, or write the prompt to stdin\n"
    );
    let run = Agent::new(&model).prompt("go").args(&["--cwd", "/nowhere"]).run().await;
    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.stderr,
        "goat-eval: cannot work in directory `/nowhere`: No such file or directory (os error 2)\n"
    );
    let run = Agent::new(&model).prompt("go").args(&["--transcript", "/dev/null/x"]).run().await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("cannot write the transcript `/dev/null/x`"), "{}", run.stderr);
    let run = Agent::new(&model).args(&["--prmpt", "go"]).run().await;
    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.stderr,
        "goat-eval: unknown flag `--prmpt`; `goat-eval --help` lists the flags\n"
    );
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    let run = Agent::at("").args(&["-help"]).run().await;
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), goat_eval::cli::HELP, "")
    );
    let run = Agent::at("").args(&["--version"]).run().await;
    assert_eq!(run.stdout, concat!("goat-eval ", env!("CARGO_PKG_VERSION"), "\n"));
}
