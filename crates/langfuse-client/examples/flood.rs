#![allow(clippy::all)]
use jiff::{Span, Timestamp};
use langfuse_client::*;
use serde_json::json;
use std::time::{Duration, Instant};
/// The pair of events that the peer's script sends.
async fn send(queue: &Ingestion, number: usize) -> anyhow::Result<()> {
    let text = "The goat stands on the mountain and looks over the valley. ".repeat(4);
    let midnight: Timestamp = "2026-01-02T00:00:00Z".parse()?;
    let start = midnight + Span::new().milliseconds(i64::try_from(number)?);
    let mut trace = TraceBody::new(format!("rs-{number}"));
    trace.timestamp = Some(start);
    trace.name = Some("bench".into());
    trace.session_id = Some(format!("rs-session-{}", number % 100).into());
    trace.user_id = Some("bench-rs".into());
    trace.tags = Some(vec!["bench".into()]);
    trace.input = Some(json!({ "q": text }));
    trace.output = Some(json!({ "a": text }));
    trace.metadata = Some(json!({ "number": number }));
    let mut generation = ObservationBody::new(trace.id.clone(), format!("rs-g-{number}"));
    generation.name = Some("call".into());
    generation.start_time = Some(start);
    generation.end_time = Some(start + Span::new().seconds(1));
    generation.model = Some("gpt-4o-mini".into());
    generation.model_parameters = Some([("temperature".to_owned(), json!(0.5))].into());
    generation.input = Some(json!([{ "role": "user", "content": text }]));
    generation.output = Some(json!({ "role": "assistant", "content": text }));
    generation.usage = Some(Usage {
        input: Some(100.0),
        output: Some(50.0),
        unit: Some("TOKENS".into()),
        ..Usage::default()
    });
    queue.send(&Event::trace(trace)).await?;
    queue.send(&Event::create(ObservationKind::Generation, generation)).await?;
    Ok(())
}

fn cpu_seconds() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let v: Vec<&str> = s.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (v[11].parse::<f64>().unwrap() + v[12].parse::<f64>().unwrap()) / 100.0
}
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let n: usize = std::env::args().nth(1).unwrap().parse()?;
    let client = Client::new(Config::from_vars(|name| std::env::var(name).ok())?)?;
    let queue = client.ingestion(QueueConfig::default()).await?;
    let (b, u) = (Instant::now(), cpu_seconds());
    for i in 0..n / 2 {
        send(&queue, i).await?;
    }
    let r = queue.shutdown(Duration::from_secs(600)).await;
    println!(
        "{} s, cpu {} s, {} {} {}",
        b.elapsed().as_secs_f64(),
        cpu_seconds() - u,
        r.delivered,
        r.failed,
        r.pending
    );
    Ok(())
}
