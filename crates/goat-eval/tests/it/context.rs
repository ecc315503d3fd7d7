//! Conversations that outgrow the model's context window.

use serde_json::{Value, json};

use crate::support::{Agent, Model, Reply};

/// Tokens as the test's server counts them.
fn tokens(body: &Value) -> u64 {
    (body["messages"].to_string().len() + body["tools"].to_string().len()) as u64 / 4
}

fn print_much(turn: usize) -> Reply {
    let command =
        json!({"command": format!("echo turn {turn}; seq -f 'line %g of turn {turn}' 1 200")});
    Reply::Calls("", vec![("Bash", command.to_string())])
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().unwrap()
}

/// How many messages at the beginning of both are the same.
fn common(one: &Value, other: &Value) -> usize {
    messages(one).iter().zip(messages(other)).take_while(|(a, b)| a == b).count()
}

#[tokio::test]
async fn the_beginning_of_a_conversation_stays_as_it_is_but_for_few_compactions() {
    const TURNS: usize = 24;
    const WINDOW: u64 = 16_000;
    let model = Model::answering(|body, turn| {
        assert!(tokens(body) + body["max_tokens"].as_u64().unwrap() <= WINDOW, "turn {turn}");
        if turn < TURNS { print_much(turn) } else { Reply::Text("done") }
    })
    .await;
    let run = Agent::new(&model).prompt("go").args(&["--context-tokens", "16000"]).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done"), "{}", run.stderr);
    let compactions = run.events_of("compaction");
    assert!((1..=TURNS / 4).contains(&compactions.len()), "{} compactions", compactions.len());
    let requests = model.requests();
    for (turn, pair) in requests.windows(2).enumerate() {
        let (one, next) = (&pair[0].body, &pair[1].body);
        assert_eq!(one["tools"], next["tools"]);
        let compaction = compactions.iter().find(|it| it["turn"] == turn + 2);
        let same = common(one, next);
        match compaction {
            None => assert_eq!(same, messages(one).len(), "turn {}", turn + 1),
            Some(it) => assert_eq!(same as u64, it["shortened"][0]["message"], "turn {}", turn + 1),
        }
    }
    // The task and the newest result are whole to the end.
    let last = messages(&requests[TURNS].body);
    assert_eq!(last[1]["content"], "go");
    assert!(last.last().unwrap()["content"].as_str().unwrap().contains("line 100 of turn 23"));
    assert_eq!(compactions[0]["window"], WINDOW);
}

#[tokio::test]
async fn what_the_model_said_itself_becomes_a_summary() {
    let model = Model::answering(|body, turn| {
        let last = messages(body).last().unwrap()["content"].as_str().unwrap_or_default();
        if last.contains("Write a summary for yourself") {
            assert_eq!(body["tool_choice"], "none");
            assert!(body["max_tokens"].as_u64().unwrap() <= 2_048);
            return Reply::Text("So far: SUMMED-UP.");
        }
        if turn > 14 {
            return Reply::Text("done");
        }
        let text = format!("Thought {turn}: {}", "many words ".repeat(300));
        Reply::Calls(text.leak(), vec![("Bash", json!({"command": "echo ok"}).to_string())])
    })
    .await;
    let run =
        Agent::new(&model).prompt("THE TASK").args(&["--context-tokens", "12000"]).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done"), "{}", run.stderr);
    let summaries: Vec<Value> =
        run.events_of("compaction").into_iter().filter(|it| it["summary"].is_string()).collect();
    assert!(!summaries.is_empty() && run.events_of("summarise").len() == summaries.len());
    let requests = model.requests();
    let last = messages(&requests.last().unwrap().body);
    let start = last[1]["content"].as_str().unwrap();
    assert!(
        start.starts_with("THE TASK\n\n[Earlier messages") && start.contains("SUMMED-UP"),
        "{start}"
    );
    // The model's words are no more the user's than what they are made of.
    let (task, summary) = start.split_once("to save context:]\n").unwrap();
    assert!(!task.contains("tool_output") && summary.starts_with("<tool_output "), "{start}");
    // The prompt of a summary is the conversation as it was, so that the server's cache helps.
    let asked = requests.iter().position(|it| it.body["tool_choice"] == "none").unwrap();
    let before = &requests[asked - 1].body;
    assert_eq!(common(before, &requests[asked].body), messages(before).len());
}

#[tokio::test]
async fn a_window_that_nobody_named_is_learned_from_refusals() {
    for wording in [true, false] {
        let model = Model::answering(move |body, _| {
            let (prompt, most) = (tokens(body), body["max_tokens"].as_u64().unwrap());
            if prompt + most > 10_000 {
                let told = format!(
                    "This model's maximum context length is 10000 tokens. However, you requested {} tokens ({prompt} in the messages, {most} in the completion). Please reduce the length of the messages or completion.",
                    prompt + most
                );
                let message = if wording { told } else { "prompt is too long".into() };
                return Reply::Status(400, json!({"error": {"message": message}}), false);
            }
            let turn = messages(body).iter().filter(|it| it["role"] == "assistant").count();
            if turn < 10 { print_much(turn) } else { Reply::Text("done") }
        })
        .await;
        let run = Agent::new(&model).prompt("go").run().await;
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done"), "{}", run.stderr);
        assert_eq!(run.summary()["turns"], 11);
    }
}

#[tokio::test]
async fn a_task_that_can_never_fit_ends_with_one_clear_line() {
    let refusal = json!({"error": {"message": "prompt is too long: 9000 tokens > 100 maximum"}});
    let model = Model::answering(move |_, _| Reply::Status(400, refusal.clone(), false)).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    let error = run.summary()["error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("the conversation is too long for model `scripted` (400)"),
        "{error}"
    );
    assert!(model.requests().len() <= 8);
}
