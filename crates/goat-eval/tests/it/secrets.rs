//! Where a command of the agent could look for the key, and what the run writes down.

use serde_json::json;

use crate::support::{Agent, KEY, Model, Reply};

/// Looks for the key in every place that a process of the same user can read.
const SEARCH: &str = r#"
env | grep -c "$1$2"
for pid in $PPID $(cat /proc/$PPID/stat | cut -d' ' -f4); do
  [ "$pid" = "$PPID" ] || continue
  tr '\0' '\n' < /proc/$pid/environ 2>&1 | grep -c "$1$2"
  tr '\0' '\n' < /proc/$pid/cmdline 2>&1 | grep -c "$1$2"
  head -c 1 /proc/$pid/mem > /dev/null 2>&1 && echo readable
done
true
"#;

#[tokio::test]
async fn a_command_finds_the_key_nowhere() {
    let (first, second) = KEY.split_at(8);
    let search = format!("set -- '{first}' '{second}'\n{SEARCH}");
    let peek =
        "cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n' | cut -d= -f1 | sort | tr '\\n' ' '";
    let model = Model::start([
        Reply::Calls(
            "",
            vec![
                ("Bash", json!({"command": search}).to_string()),
                ("Bash", json!({"command": peek}).to_string()),
            ],
        ),
        Reply::Text("done"),
    ])
    .await;
    let run = Agent::new(&model)
        .env("ANTHROPIC_API_KEY", "sk-ant-other")
        .env("COPY_OF_IT", &format!("x{KEY}y"))
        .env("DATABASE_PASSWORD", "of the task")
        .prompt("find it")
        .run()
        .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results = model.requests()[1].tool_results();
    assert_eq!(results[0].trim(), "0\n0\n0", "the key was found, or the memory can be read");
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "COPY_OF_IT"] {
        assert!(!results[1].contains(name), "{}", results[1]);
    }
    let request = &model.requests()[0];
    assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
    assert!(!run.everything().contains(KEY));
}

#[tokio::test]
async fn the_tasks_own_variables_stay() {
    let command = json!({"command": "echo $DATABASE_PASSWORD $EVAL_MODEL"}).to_string();
    let model =
        Model::start([Reply::Calls("", vec![("Bash", command)]), Reply::Text("done")]).await;
    let run = Agent::new(&model).env("DATABASE_PASSWORD", "open").prompt("go").run().await;
    assert_eq!(model.requests()[1].tool_results(), ["open scripted\n"], "{}", run.stderr);
}

#[tokio::test]
async fn a_key_that_turns_up_elsewhere_is_masked() {
    let model = Model::start([
        Reply::Calls("", vec![("Read", json!({"file_path": "leak"}).to_string())]),
        Reply::Text("The key is sk-planted-0123456789."),
    ])
    .await;
    let run = Agent::new(&model).file("leak", KEY).prompt("read it").run().await;
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (Some(0), "The key is [redacted]."),
        "{}",
        run.stderr
    );
    assert!(!run.everything().contains(KEY));
    assert!(run.events_of("tool_result")[0]["output"].as_str().unwrap().contains("[redacted]"));
}
