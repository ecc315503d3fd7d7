//! What a broken or refusing model leads to.

use serde_json::{Value, json};

use crate::support::{Agent, Model, Reply};

fn error(message: &str) -> Value {
    json!({"error": {"message": message}})
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let replies = [429, 529, 503].map(|status| Reply::Status(status, error("later"), true));
    let model = Model::start(replies.into_iter().chain([Reply::Text("at last")])).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "at last"), "{}", run.stderr);
    let retries = run.events_of("retry");
    assert_eq!(retries.len(), 3);
    assert_eq!((&retries[0]["attempt"], &retries[0]["delay_ms"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn four_failures_are_the_end() {
    let model = Model::start((0..5).map(|_| Reply::Status(502, error("bad gateway"), true))).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str(), model.requests().len()), (Some(4), "", 4));
    let expected =
        format!("the model endpoint `{}` failed (attempt 4 of 4) with 502: bad gateway", model.url);
    assert_eq!(run.summary()["error"], expected);
    assert!(run.stderr.ends_with(&format!("goat-eval: {expected}\n")), "{}", run.stderr);
    assert_eq!(run.summary()["outcome"], "model_error");
}

#[tokio::test]
async fn a_stream_that_breaks_is_read_again_from_its_start() {
    let model = Model::start([Reply::Breaks("half an ans"), Reply::Text("whole")]).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "whole"), "{}", run.stderr);
    assert_eq!(run.events_of("retry").len(), 1);
    assert_eq!(run.summary()["turns"], 1);
}

#[tokio::test]
async fn a_stream_without_end_mark_is_broken_too() {
    let half = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}]});
    let overloaded = json!({"error": {"message": "engine overloaded", "code": 503}});
    let model = Model::start([Reply::Chunks(vec![half, overloaded]), Reply::Text("whole")]).await;
    let run = Agent::new(&model).prompt("go").run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "whole"), "{}", run.stderr);
    assert!(
        run.events_of("retry")[0]["error"].as_str().unwrap().ends_with("503: engine overloaded")
    );
}

#[tokio::test]
async fn refusals_end_at_once_with_one_clear_line() {
    let cases = [
        (401, error("Incorrect API key provided: sk-planted-0123456789"), "check OPENAI_API_KEY"),
        (
            404,
            json!({"error": {"message": "no", "code": "model_not_found"}}),
            "does not know model `scripted`",
        ),
        (
            400,
            error("Invalid model name passed in model=scripted"),
            "does not know model `scripted`",
        ),
        (404, json!({"detail": "Not Found"}), "check OPENAI_BASE_URL"),
    ];
    for (status, body, expected) in cases {
        let model = Model::start([Reply::Status(status, body, false)]).await;
        let run = Agent::new(&model).prompt("go").run().await;
        assert_eq!((run.code, model.requests().len()), (Some(4), 1), "{}", run.stderr);
        assert!(run.stderr.contains(expected) && run.stderr.lines().count() == 1, "{}", run.stderr);
        assert!(!run.everything().contains(crate::support::KEY), "{}", run.everything());
    }
}

#[tokio::test]
async fn an_unreachable_address_is_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let run = Agent::at(&url).prompt("go").run().await;
    assert_eq!(run.code, Some(4));
    let error = run.summary()["error"].as_str().unwrap().to_owned();
    let expected = format!(
        "cannot reach the model endpoint `{url}` (attempt 4 of 4), check OPENAI_BASE_URL: "
    );
    assert_eq!(error, format!("{expected}Connection refused (os error 111)"));
    let run = Agent::at("nonsense").prompt("go").run().await;
    assert_eq!(run.code, Some(4));
    assert_eq!(
        run.summary()["error"],
        "OPENAI_BASE_URL `nonsense` is no address of the form http://HOST/v1"
    );
}
