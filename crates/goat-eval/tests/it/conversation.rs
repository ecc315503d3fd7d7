//! What happens between a prompt and its answer.

use serde_json::{Value, json};

use crate::support::{Agent, Model, Reply};

fn arguments(value: Value) -> String {
    value.to_string()
}

#[tokio::test]
async fn the_answer_is_all_that_stdout_gets() {
    let model = Model::start([Reply::Text("Forty-two.")]).await;
    let run = Agent::new(&model).prompt("What is it?").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Forty-two."), "{}", run.stderr);
    let body = &model.requests()[0].body;
    assert_eq!(
        (&body["model"], &body["stream"], &body["max_tokens"]),
        (&json!("scripted"), &json!(true), &json!(16384))
    );
    assert_eq!(body["messages"][1], json!({"role": "user", "content": "What is it?"}));
    assert!(body.get("temperature").is_none() && body.get("tool_choice").is_none());
}

#[tokio::test]
async fn tools_work_in_the_directory_and_results_come_back() {
    let model = Model::start([
        Reply::Calls(
            "I write it.",
            vec![(
                "Write",
                arguments(json!({"file_path": "hello.py", "content": "print('hi')\n"})),
            )],
        ),
        Reply::Calls("", vec![("Bash", arguments(json!({"command": "cat hello.py; exit 2"})))]),
        Reply::Text("Done."),
    ])
    .await;
    let run = Agent::new(&model).prompt("Write hello.py").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Done."), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(run.agent.path("hello.py")).unwrap(), "print('hi')\n");
    assert_eq!(model.requests()[2].tool_results()[1], "print('hi')\n[exit code 2]");
    insta::assert_json_snapshot!("transcript", run.stable(&Value::from(run.events())));
    insta::assert_json_snapshot!("summary", run.stable(&run.summary()));
    let progress =
        run.stderr.replace(&run.agent.workspace.path().display().to_string(), "[workspace]");
    insta::assert_snapshot!("progress", progress);
}

#[tokio::test]
async fn parallel_calls_keep_their_order() {
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                ("Read", arguments(json!({"file_path": "a"}))),
                ("Grep", arguments(json!({"pattern": "two", "output_mode": "content"}))),
                ("Write", arguments(json!({"file_path": "a", "content": "changed\n"}))),
                ("Read", arguments(json!({"file_path": "a"}))),
            ],
        ),
        Reply::Text("ok"),
    ])
    .await;
    let run = Agent::new(&model).file("a", "one\n").file("b", "two\n").prompt("go").run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert_eq!((results[0].as_str(), results[1].as_str()), ("     1\tone\n", "b:1:two"));
    assert!(results[2].starts_with("Replaced "));
    assert_eq!(results[3], "     1\tchanged\n");
    assert_eq!(run.summary()["tool_calls"], 4);
}

#[tokio::test]
async fn mistakes_of_the_model_are_told_to_it() {
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                ("Read", "{\"file_path\": \"a".into()),
                ("Fly", "{}".into()),
                ("Bash", "{}".into()),
            ],
        ),
        Reply::Text("sorry"),
    ])
    .await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert!(results[0].contains("not a JSON object"), "{results:?}");
    assert!(results[1].contains("there is no tool `Fly`"), "{results:?}");
    assert_eq!(results[2], "Error: parameter `command` is required");
    // The transcript keeps what the model wrote.
    assert_eq!(run.events_of("tool_call")[0]["arguments"], "{\"file_path\": \"a");
}

#[tokio::test]
async fn the_prompt_may_come_from_stdin() {
    use tokio::io::AsyncWriteExt;
    let model = Model::start([Reply::Text("ok")]).await;
    let mut agent = Agent::new(&model);
    agent.command().stdin(std::process::Stdio::piped());
    let mut child = agent.spawn();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all("first line\nsecond ünicode\n".as_bytes()).await.unwrap();
    drop(stdin);
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(model.requests()[0].body["messages"][1]["content"], "first line\nsecond ünicode\n");
}

#[tokio::test]
async fn small_models_are_asked_their_way() {
    let model = Model::start([Reply::Text("ok")]).await;
    let run = Agent::new(&model).prompt("go").args(&["--model", "groq/llama-3.3"]).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let body = &model.requests()[0].body;
    assert_eq!((&body["temperature"], &body["tool_choice"]), (&json!(0.3), &json!("auto")));
    assert!(body["messages"][0]["content"].as_str().unwrap().len() < 700);
    assert_eq!(run.events()[0]["prompt"], "brief.md");
}

#[tokio::test]
async fn an_answer_in_one_piece_is_an_answer() {
    let model = Model::start([Reply::Whole("all at once")]).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "all at once"), "{}", run.stderr);
}

#[tokio::test]
async fn an_empty_answer_is_asked_for_once_more() {
    let model = Model::start([Reply::Text(""), Reply::Text("now")]).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "now"), "{}", run.stderr);
    let model = Model::start([Reply::Text(""), Reply::Text("")]).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    assert_eq!(run.summary()["error"], "model `scripted` gave an empty answer twice");
}
