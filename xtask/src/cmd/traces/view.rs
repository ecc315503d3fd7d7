//! Traces and observations as they are shown.

use jiff::Timestamp;
use langfuse_client::{Observation, Trace};
use serde::Serialize;

use crate::table::{render, seconds, short};

/// One trace in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TraceRow {
    pub(crate) id: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) name: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) latency_s: Option<f64>,
    pub(crate) cost_usd: Option<f64>,
}

impl From<&Trace> for TraceRow {
    fn from(trace: &Trace) -> Self {
        Self {
            id: trace.id.to_string(),
            timestamp: trace.timestamp,
            name: trace.name.clone(),
            session: trace.session_id.as_ref().map(ToString::to_string),
            tags: trace.tags.clone(),
            latency_s: trace.latency,
            cost_usd: trace.total_cost,
        }
    }
}

impl TraceRow {
    /// Version 4 keeps no traces: what the first of its observations says of it.
    pub(crate) fn of_observation(observation: &Observation) -> Option<Self> {
        Some(Self {
            id: observation.trace_id.as_ref()?.to_string(),
            timestamp: observation.start_time,
            name: observation.trace_name.clone(),
            session: observation.session_id.as_ref().map(ToString::to_string),
            tags: observation.tags.clone().unwrap_or_default(),
            latency_s: latency(observation),
            cost_usd: observation.cost(),
        })
    }
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ObservationRow {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) input_tokens: Option<f64>,
    pub(crate) output_tokens: Option<f64>,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) latency_s: Option<f64>,
    pub(crate) level: Option<String>,
    pub(crate) status: Option<String>,
    /// Run and task of the key that called, as the proxy noted them.
    pub(crate) owner: Option<String>,
}

impl From<&Observation> for ObservationRow {
    fn from(observation: &Observation) -> Self {
        Self {
            id: observation.id.to_string(),
            kind: observation.kind.clone(),
            name: observation.name.clone(),
            model: observation.model.clone(),
            input_tokens: observation.input_tokens(),
            output_tokens: observation.output_tokens(),
            cost_usd: observation.cost(),
            latency_s: latency(observation),
            level: observation.level.clone(),
            status: observation.status_message.clone(),
            owner: observation.metadata["user_api_key_alias"].as_str().map(str::to_owned),
        }
    }
}

/// From its own times, which every version gives in the same unit.
fn latency(observation: &Observation) -> Option<f64> {
    let end = observation.end_time?;
    Some(end.duration_since(observation.start_time).as_secs_f64())
}

/// A list of traces.
pub(super) fn traces(rows: &[TraceRow]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                row.id.clone(),
                short(row.name.as_deref().unwrap_or("-"), 30),
                short(row.session.as_deref().unwrap_or("-"), 30),
                row.latency_s.map(seconds).unwrap_or_default(),
                dollars(row.cost_usd),
            ]
        })
        .collect();
    render(&["time (UTC)", "trace", "name", "session", "took", "$"], &cells)
}

/// The observations of a trace.
pub(super) fn observations(rows: &[ObservationRow]) -> String {
    let count = |tokens: Option<f64>| tokens.map(|it| it.to_string()).unwrap_or_default();
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.kind.clone(),
                short(row.name.as_deref().unwrap_or("-"), 40),
                row.model.clone().unwrap_or_default(),
                count(row.input_tokens),
                count(row.output_tokens),
                dollars(row.cost_usd),
                row.latency_s.map(|it| format!("{it:.2} s")).unwrap_or_default(),
                short(row.status.as_deref().unwrap_or_default(), 60),
            ]
        })
        .collect();
    let header = ["type", "name", "model", "tokens in", "out", "$", "took", ""];
    render(&header, &cells)
}

/// Six digits: a cheap call costs a few millionths.
fn dollars(cost: Option<f64>) -> String {
    cost.map(|cost| format!("{cost:.6}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_leaves_its_cell_empty() {
        let row = ObservationRow {
            id: "o".into(),
            kind: "GENERATION".into(),
            name: Some("litellm-acompletion".into()),
            model: Some("gpt-5-nano".into()),
            input_tokens: Some(11.0),
            output_tokens: None,
            cost_usd: Some(0.000_003),
            latency_s: Some(1.25),
            level: None,
            status: None,
            owner: None,
        };
        insta::assert_snapshot!(observations(&[row]), @r"
        type        name                 model       tokens in  out  $         took
        GENERATION  litellm-acompletion  gpt-5-nano  11              0.000003  1.25 s
        ");
    }
}
