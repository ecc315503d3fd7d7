//! Limits of a run besides turns and time.

use serde_json::{Value, json};

use crate::support::{Agent, Model, Reply};

fn busy(_: &Value, _: usize) -> Reply {
    Reply::Calls("working", vec![("Bash", json!({"command": "true"}).to_string())])
}

#[tokio::test]
async fn tokens_that_are_used_up_end_a_run() {
    let model = Model::answering(busy).await;
    let run = Agent::new(&model).prompt("go").args(&["--max-tokens", "8000"]).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(6), "working"), "{}", run.stderr);
    let summary = run.summary();
    assert_eq!(summary["outcome"], "tokens_used_up");
    let used =
        summary["input_tokens"].as_u64().unwrap() + summary["output_tokens"].as_u64().unwrap();
    assert!(used <= 8_000 && used > 2_000, "{used}");
    // The last answer was asked to be short enough.
    let last = model.requests().pop().unwrap();
    assert!(last.body["max_tokens"].as_u64().unwrap() < 8_000);
}

#[tokio::test]
async fn money_that_is_used_up_ends_a_run() {
    let model = Model::answering(busy).await;
    let price = ["--max-cost", "0.05", "--price", "10,20,1"];
    let run = Agent::new(&model).prompt("go").args(&price).run().await;
    assert_eq!(run.code, Some(7), "{}", run.stderr);
    let summary = run.summary();
    assert_eq!(summary["outcome"], "cost_used_up");
    let cost = summary["cost_usd"].as_f64().unwrap();
    assert!(cost > 0.01 && cost <= 0.05, "{cost}");
    assert_eq!(run.events().pop().unwrap()["cost_usd"], summary["cost_usd"]);
}

#[tokio::test]
async fn a_limit_in_money_needs_a_price() {
    let model = Model::start([]).await;
    let run = Agent::new(&model).prompt("go").args(&["--max-cost", "1"]).run().await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("needs the price of model `scripted`"), "{}", run.stderr);
    let prices = json!({"scripted": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
        "max_input_tokens": 50000, "max_output_tokens": 700}});
    let model = Model::start([Reply::Text("ok")]).await;
    let agent = Agent::new(&model).file("prices.json", &prices.to_string());
    let path = agent.path("prices.json").display().to_string();
    let run = agent.env("EVAL_PRICES", &path).prompt("go").args(&["--max-cost", "1"]).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.summary()["cost_usd"], 0.00012);
    assert_eq!(model.requests()[0].body["max_tokens"], 700);
}

#[tokio::test]
async fn sampling_is_what_the_flags_say() {
    let model = Model::start([Reply::Text("ok")]).await;
    let arguments = [
        "--model",
        "llama-x",
        "--temperature",
        "default",
        "--top-p",
        "0.9",
        "--max-output-tokens",
        "99",
    ];
    let run = Agent::new(&model).prompt("go").args(&arguments).run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let body = &model.requests()[0].body;
    assert!(body.get("temperature").is_none());
    assert_eq!((&body["top_p"], &body["max_tokens"]), (&json!(0.9), &json!(99)));
}
