//! Writes a trace with a generation and a score to whatever version of Langfuse answers.
//!
//! Environment: LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY. Prints the trace's id.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use jiff::{Span, Timestamp};
use langfuse_client::{
    Client, Config, ObservationBody, ObservationId, ObservationKind, QueueConfig, ScoreBody,
    TraceBody, TraceId,
};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::new(Config::from_vars(|name| std::env::var(name).ok())?)?;
    // Asks the server for its version, and writes what that version stores.
    let recorder = client.recorder(QueueConfig::default()).await?;

    let began = Timestamp::now();
    let mut trace = TraceBody::new(TraceId::random());
    trace.name = Some("example".into());
    trace.timestamp = Some(began);
    trace.session_id = Some("example-session".into());
    trace.tags = Some(vec!["rust".into()]);
    trace.input = Some(json!({ "question": "2 + 2" }));
    trace.output = Some(json!({ "answer": 4 }));

    let mut generation = ObservationBody::new(trace.id.clone(), ObservationId::random());
    generation.name = Some("call".into());
    generation.start_time = Some(began);
    generation.end_time = Some(began + Span::new().milliseconds(250));
    generation.model = Some("gpt-4o-mini".into());
    generation.input = Some(json!([{ "role": "user", "content": "2 + 2" }]));
    generation.output = Some(json!({ "role": "assistant", "content": "4" }));
    let tokens = [("input", 9), ("output", 1), ("total", 10)];
    generation.usage_details = Some(named(tokens));
    generation.cost_details = Some(named([("total", 0.000_002)]));

    let score =
        ScoreBody::boolean("correct", true).of_observation(trace.id.clone(), generation.id.clone());
    recorder.trace(&trace, &[(ObservationKind::Generation, generation)]).await?;
    recorder.score(score).await?;

    // Nothing is lost unseen: every event is confirmed, or named with the server's reason.
    let report = recorder.shutdown(Duration::from_secs(30)).await;
    ensure!(report.is_complete(), "some events were lost: {report:?}");
    #[expect(clippy::print_stdout, reason = "the result of the example")]
    {
        println!("{}", trace.id);
    }
    Ok(())
}

fn named<T, const N: usize>(pairs: [(&str, T); N]) -> BTreeMap<String, T> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
