//! Writes whole traces to whatever version answers, so that a program need not care.

use std::time::Duration;

use crate::{
    client::Client,
    error::Result,
    ingestion::{Event, Ingestion, ObservationBody, ObservationKind, ScoreBody, TraceBody},
    observation::Usage,
    otlp::{Encoding, Experiment, SpanRecord, Spans},
    probe::ApiVersion,
    queue::{QueueConfig, Report},
};

/// A queue of traces, observations and scores. Version 2 gets ingestion events; versions 3 and 4 get spans, and
/// scores by ingestion events. Clones feed the same queue.
///
/// Scores of sessions and runs need version 3: version 2 refuses them in the report.
#[derive(Debug, Clone)]
pub struct Recorder {
    events: Ingestion,
    spans: Option<Spans>,
}

impl Client {
    /// Starts a recorder; asks the server first which version it is.
    ///
    /// # Errors
    /// Those of [`Client::server`].
    pub async fn recorder(&self, config: QueueConfig) -> Result<Recorder> {
        let spans = match self.api().await? {
            ApiVersion::V2 => None,
            _ => Some(self.spans(config.clone(), Encoding::Protobuf).await?),
        };
        Ok(Recorder { events: self.ingestion(config).await?, spans })
    }
}

impl Recorder {
    /// Writes a trace with its observations, each of them over.
    ///
    /// Versions 3 and 4 know a trace only by its spans: where it has none, one is made of the trace itself.
    ///
    /// # Errors
    /// Those of [`Ingestion::send`] and [`Spans::send`].
    pub async fn trace(
        &self,
        trace: &TraceBody,
        observations: &[(ObservationKind, ObservationBody)],
    ) -> Result<()> {
        self.run(trace, observations, None).await
    }

    /// As [`Recorder::trace`], for an item of a run over a dataset on version 4; on versions 2 and 3 make the link by
    /// [`Client::create_dataset_run_item`].
    ///
    /// # Errors
    /// As [`Recorder::trace`].
    pub async fn run(
        &self,
        trace: &TraceBody,
        observations: &[(ObservationKind, ObservationBody)],
        experiment: Option<&Experiment>,
    ) -> Result<()> {
        let Some(spans) = &self.spans else {
            return self.events(trace, observations).await;
        };
        let whole = (ObservationKind::Span, whole(trace));
        let observations =
            if observations.is_empty() { std::slice::from_ref(&whole) } else { observations };
        for (kind, observation) in observations {
            spans.send(&SpanRecord { trace, kind: *kind, observation, experiment }).await?;
        }
        Ok(())
    }

    /// Writes a score.
    ///
    /// # Errors
    /// Those of [`Ingestion::send`].
    pub async fn score(&self, score: ScoreBody) -> Result<()> {
        self.events.score(score).await.map(drop)
    }

    /// Waits until all that was taken before is confirmed or has failed for good.
    pub async fn flush(&self) -> Report {
        let events = self.events.flush().await;
        match &self.spans {
            Some(spans) => sum(events, spans.flush().await),
            None => events,
        }
    }

    /// Sends what waits and stops, within `limit` for each of its queues.
    pub async fn shutdown(&self, limit: Duration) -> Report {
        let events = self.events.shutdown(limit).await;
        match &self.spans {
            Some(spans) => sum(events, spans.shutdown(limit).await),
            None => events,
        }
    }

    async fn events(
        &self,
        trace: &TraceBody,
        observations: &[(ObservationKind, ObservationBody)],
    ) -> Result<()> {
        self.events.send(&Event::trace(trace.clone())).await?;
        for (kind, observation) in observations {
            let mut body = observation.clone();
            body.usage = body.usage.or_else(|| usage(observation));
            self.events.send(&Event::create(kind.for_version_2(), body)).await?;
        }
        Ok(())
    }
}

/// Version 2 ignores details, so they become its usage.
fn usage(observation: &ObservationBody) -> Option<Usage> {
    if observation.usage_details.is_none() && observation.cost_details.is_none() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 tokens")]
    let tokens = |kind| observation.usage_details.as_ref()?.get(kind).map(|count| *count as f64);
    let cost = |kind| observation.cost_details.as_ref()?.get(kind).copied();
    Some(Usage {
        input: tokens("input"),
        output: tokens("output"),
        total: tokens("total"),
        unit: Some("TOKENS".to_owned()),
        input_cost: cost("input"),
        output_cost: cost("output"),
        total_cost: cost("total"),
        ..Usage::default()
    })
}

/// The observation that stands for a trace without any.
fn whole(trace: &TraceBody) -> ObservationBody {
    let id = trace.id.as_str();
    // The same trace again must be the same span, so the id is the trace's, cut to a span's length.
    let mut body = ObservationBody::new(id, id.get(..16).unwrap_or(id));
    body.name = trace.name.clone();
    body.start_time = trace.timestamp;
    body.input = trace.input.clone();
    body.output = trace.output.clone();
    body
}

fn sum(mut one: Report, other: Report) -> Report {
    one.taken += other.taken;
    one.delivered += other.delivered;
    one.failed += other.failed;
    one.pending += other.pending;
    one.failures.extend(other.failures);
    one.failures_left_out += other.failures_left_out;
    one
}
