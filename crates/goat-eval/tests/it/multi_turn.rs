//! Several prompts in one conversation, and what calls carry for traces.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::{Agent, Model, Reply};

#[tokio::test]
async fn each_line_is_a_prompt_and_each_answer_comes_at_once() {
    let model = Model::start([Reply::Text("One."), Reply::Text("Two.")]).await;
    let mut agent = Agent::new(&model).args(&["--multi-turn"]);
    agent.command().stdin(Stdio::piped());
    let mut child = agent.spawn();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answers = BufReader::new(stdout).lines();
    stdin.write_all(b"first prompt\n").await.unwrap();
    assert_eq!(answers.next_line().await.unwrap().unwrap(), "One.");
    // An empty line ends it, whatever follows.
    stdin.write_all("zweiter Prömpt\r\n\nnever\n".as_bytes()).await.unwrap();
    assert_eq!(answers.next_line().await.unwrap().unwrap(), "Two.");
    assert_eq!(answers.next_line().await.unwrap(), None);
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let meta: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(meta, [r#"{"turn":1,"cost_usd":null}"#, r#"{"turn":2,"cost_usd":null}"#]);
    assert!(run.events_of("prompt_end").iter().all(|it| it.get("cost_usd").is_none()));
    let messages = model.requests()[1].body["messages"].as_array().unwrap().clone();
    let texts: Vec<_> = messages[1..].iter().map(|it| it["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["first prompt", "One.", "zweiter Prömpt"]);
    assert_eq!(run.events_of("prompt_end").len(), 2);
    assert_eq!(run.events()[0]["multi_turn"], true);
}

#[tokio::test]
async fn the_flag_may_hold_the_first_prompt_and_turns_count_for_each() {
    let bash = || ("Bash", json!({"command": "true"}).to_string());
    let model = Model::start([
        Reply::Calls("", vec![bash()]),
        Reply::Text("One."),
        Reply::Calls("Busy.", vec![bash()]),
        Reply::Calls("", vec![bash()]),
    ])
    .await;
    let mut agent = Agent::new(&model).prompt("a").args(&["--multi-turn", "--max-turns", "2"]);
    agent.command().stdin(Stdio::piped());
    let mut child = agent.spawn();
    child.stdin.take().unwrap().write_all(b"b").await.unwrap();
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), "One.\nBusy.\n"), "{}", run.stderr);
}

#[tokio::test]
async fn the_line_after_an_answer_tells_the_cost_where_a_price_is_known() {
    let model = Model::start([Reply::Text("One."), Reply::Text("Two.")]).await;
    let agent = Agent::new(&model).prompt("a").args(&["--multi-turn", "--price", "10,20,1"]);
    let mut agent = agent;
    agent.command().stdin(Stdio::piped());
    let mut child = agent.spawn();
    child.stdin.take().unwrap().write_all(b"b\n").await.unwrap();
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let meta: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with('{')).collect();
    // 50 tokens at 10, 50 cached at 1, 10 at 20 USD a million.
    assert_eq!(meta, [r#"{"turn":1,"cost_usd":0.000750}"#, r#"{"turn":2,"cost_usd":0.001500}"#]);
    assert_eq!(run.events_of("prompt_end")[1]["cost_usd"], 0.0015);
}

#[tokio::test]
async fn without_a_line_there_is_no_prompt() {
    let model = Model::start([]).await;
    let run = Agent::new(&model).args(&["-multi-turn"]).run().await;
    assert_eq!((run.code, model.requests().len()), (Some(1), 0));
    assert!(run.stderr.contains("no prompt"), "{}", run.stderr);
}

#[tokio::test]
async fn calls_carry_what_traces_need_and_nothing_that_was_not_given() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let model = Model::start([Reply::Text("ok"), Reply::Text("ok")]).await;
    let flags = [
        "--traceparent",
        PARENT,
        "--trace-session",
        "run-1",
        "--trace-name=task",
        "--trace-tag=baseline",
        "--trace-tag=epoch-1",
    ];
    let run = Agent::new(&model).prompt("go").args(&flags).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let request = &model.requests()[0];
    assert_eq!(request.headers["traceparent"], PARENT);
    assert_eq!(
        request.body["metadata"],
        json!({"session_id": "run-1", "trace_name": "task", "tags": ["baseline", "epoch-1"],
               "trace_id": "0af7651916cd43dd8448eb211c80319c"})
    );
    assert_eq!(run.events()[0]["trace"]["session"], "run-1");
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let plain = &model.requests()[1];
    assert!(plain.headers.get("traceparent").is_none() && plain.body.get("metadata").is_none());
}

#[tokio::test]
async fn the_system_prompt_can_be_replaced_and_is_known_by_its_hash() {
    let model = Model::start([Reply::Text("ok")]).await;
    let agent = Agent::new(&model).prompt("go").file("own.md", "Be brief.\n");
    let path = agent.path("own.md").display().to_string();
    let run = agent.args(&["--system-prompt", &path]).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let system = model.requests()[0].body["messages"][0]["content"].clone();
    assert!(system.as_str().unwrap().starts_with("Be brief.\n\nWorking directory: "), "{system}");
    let start = &run.events()[0];
    assert_eq!(
        start["prompt_sha256"],
        "96fb1c7f068c5ce63e2b45fc4aea602d48d5302be6ca033f3e1f0c7148558a49"
    );
    assert!(start.get("prompt_version").is_none());
    let run = Agent::new(&model).prompt("go").args(&["--system-prompt", "/no/such"]).run().await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
}
