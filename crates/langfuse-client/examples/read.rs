//! Shows the observations and scores of a trace, on every version of Langfuse.
//!
//! Argument: the trace's id. Environment: LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY.

#![expect(clippy::print_stdout, reason = "the result of the example")]

use anyhow::Context as _;
use futures::TryStreamExt as _;
use langfuse_client::{Client, Config, ObservationFilter, ScoreFilter, TraceId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let id = TraceId::new(std::env::args().nth(1).context("say the id of a trace")?);
    let client = Client::new(Config::from_vars(|name| std::env::var(name).ok())?)?;
    let server = client.server().await?;
    println!("Langfuse {}, read as version {}", server.version, server.api);

    // Pages and cursors are fetched as the stream is read.
    let mut observations = client.observations(ObservationFilter::of_trace(id.clone()));
    while let Some(observation) = observations.try_next().await? {
        println!(
            "{} {}: {} tokens, {} USD, {} s",
            observation.kind,
            observation.name.as_deref().unwrap_or("-"),
            observation.total_tokens().unwrap_or(0.0),
            observation.cost().unwrap_or(0.0),
            observation.latency.unwrap_or(0.0),
        );
        println!("  {} -> {}", observation.input_json(), observation.output_json());
    }
    let filter = ScoreFilter { trace_id: Some(id), ..ScoreFilter::default() };
    let scores: Vec<_> = client.scores(filter).try_collect().await?;
    for score in scores {
        println!("{} = {}", score.name, score.value);
    }
    Ok(())
}
