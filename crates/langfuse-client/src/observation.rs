//! Observations: spans, generations, events, and from version 3 on agents, tools and the like.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    ids::{ObservationId, ProjectId, SessionId, TraceId},
    json::Extra,
    page::{List, Query, Rows, rows},
    probe::{ApiVersion, unsupported},
};

/// An observation, as any version shows it. What a version or the asked fields lack is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Its id.
    pub id: ObservationId,
    /// The trace that it is part of.
    pub trace_id: Option<TraceId>,
    /// `SPAN`, `GENERATION`, `EVENT`; from version 3 on also `AGENT`, `TOOL` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// When it began. Version 4 stores microseconds and shows milliseconds.
    pub start_time: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub end_time: Option<Timestamp>,
    /// When the first token came.
    #[serde(default)]
    pub completion_start_time: Option<Timestamp>,
    /// The observation that it is part of.
    #[serde(default)]
    pub parent_observation_id: Option<ObservationId>,
    /// What went in. Version 4 shows text, also of JSON: see [`Observation::input_json`].
    #[serde(default)]
    pub input: Value,
    /// What came out; as `input`.
    #[serde(default)]
    pub output: Value,
    /// Whatever the caller noted.
    #[serde(default)]
    pub metadata: Value,
    /// `DEBUG`, `DEFAULT`, `WARNING`, `ERROR`.
    #[serde(default)]
    pub level: Option<String>,
    /// What went wrong, in words.
    #[serde(default)]
    pub status_message: Option<String>,
    /// The version of what was observed.
    #[serde(default)]
    pub version: Option<String>,
    /// The environment; version 2 has none.
    #[serde(default)]
    pub environment: Option<String>,
    /// The model as the caller named it: `model` in versions 2 and 3.
    #[serde(default, alias = "providedModelName")]
    pub model: Option<String>,
    /// The model's settings; in version 4 possibly JSON as text.
    #[serde(default)]
    pub model_parameters: Value,
    /// Tokens, as versions 2 and 3 show them.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Tokens by kind, versions 3 and 4.
    #[serde(default)]
    pub usage_details: Option<BTreeMap<String, f64>>,
    /// US dollars by kind, versions 3 and 4.
    #[serde(default)]
    pub cost_details: Option<BTreeMap<String, f64>>,
    /// US dollars, version 2: given or counted by the server.
    #[serde(default)]
    pub calculated_total_cost: Option<f64>,
    /// US dollars, version 4.
    #[serde(default)]
    pub total_cost: Option<f64>,
    /// Seconds from start to end.
    #[serde(default)]
    pub latency: Option<f64>,
    /// Seconds to the first token.
    #[serde(default)]
    pub time_to_first_token: Option<f64>,
    /// The project.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// Version 4: the trace's user.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Version 4: the trace's session.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// Version 4: the trace's name.
    #[serde(default)]
    pub trace_name: Option<String>,
    /// Version 4: the trace's tags.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Observation {
    /// The input as JSON, also where the server shows JSON as text.
    pub fn input_json(&self) -> Value {
        decoded(&self.input)
    }

    /// The output as JSON; as [`Observation::input_json`].
    pub fn output_json(&self) -> Value {
        decoded(&self.output)
    }

    /// Tokens that went in.
    pub fn input_tokens(&self) -> Option<f64> {
        self.tokens("input", |usage| usage.input)
    }

    /// Tokens that came out.
    pub fn output_tokens(&self) -> Option<f64> {
        self.tokens("output", |usage| usage.output)
    }

    /// All tokens.
    pub fn total_tokens(&self) -> Option<f64> {
        self.tokens("total", |usage| usage.total)
    }

    /// US dollars, from wherever this version puts them.
    pub fn cost(&self) -> Option<f64> {
        let detail = || self.cost_details.as_ref()?.get("total").copied();
        self.calculated_total_cost.or(self.total_cost).or_else(detail)
    }

    fn tokens(&self, kind: &str, of: impl Fn(&Usage) -> Option<f64>) -> Option<f64> {
        let detail = self.usage_details.as_ref().and_then(|details| details.get(kind).copied());
        detail.or_else(|| self.usage.as_ref().and_then(of))
    }
}

fn decoded(value: &Value) -> Value {
    let text = value.as_str().filter(|text| text.starts_with(['{', '[']));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| value.clone())
}

/// Tokens and costs, as version 2 counts them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Units in.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "whole")]
    pub input: Option<f64>,
    /// Units out.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "whole")]
    pub output: Option<f64>,
    /// Units in all.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "whole")]
    pub total: Option<f64>,
    /// `TOKENS`, `CHARACTERS`, `MILLISECONDS`, `SECONDS`, `IMAGES`, `REQUESTS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// US dollars in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_cost: Option<f64>,
    /// US dollars out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cost: Option<f64>,
    /// US dollars in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cost: Option<f64>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A count without a decimal point: servers refuse `10.0` where they want an integer.
fn whole<S: serde::Serializer>(count: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and within i64's exact range"
    )]
    match count {
        Some(count) if count.fract() == 0.0 && count.abs() < 9e15 => {
            to.serialize_i64(*count as i64)
        }
        Some(count) => to.serialize_f64(*count),
        None => to.serialize_none(),
    }
}

/// Which observations are listed. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservationFilter {
    /// Of this name.
    pub name: Option<String>,
    /// Of this user.
    pub user_id: Option<String>,
    /// Of this kind, for example `GENERATION`.
    pub kind: Option<String>,
    /// Of this trace.
    pub trace_id: Option<TraceId>,
    /// Directly below this observation.
    pub parent_observation_id: Option<ObservationId>,
    /// Not started before.
    pub from: Option<Timestamp>,
    /// Started before.
    pub to: Option<Timestamp>,
    /// Of this version.
    pub version: Option<String>,
    /// Of any of these environments; versions 3 and 4.
    pub environments: Vec<String>,
    /// Of this session; version 4.
    pub session_id: Option<SessionId>,
    /// Only those without a parent in the program; version 4.
    pub root: Option<bool>,
    /// Keys of metadata that version 4 must not cut to 200 characters.
    pub whole_metadata: Vec<String>,
}

impl ObservationFilter {
    /// All observations of a trace.
    pub fn of_trace(id: TraceId) -> Self {
        Self { trace_id: Some(id), ..Self::default() }
    }

    fn query(self, version: ApiVersion) -> Query {
        let mut query = Query::new();
        let mut put = |key, value: Option<String>| query.extend(value.map(|value| (key, value)));
        put("name", self.name);
        put("userId", self.user_id);
        put("type", self.kind);
        put("traceId", self.trace_id.map(|id| id.to_string()));
        put("parentObservationId", self.parent_observation_id.map(|id| id.to_string()));
        put("fromStartTime", self.from.map(|time| time.to_string()));
        put("toStartTime", self.to.map(|time| time.to_string()));
        put("version", self.version);
        if version == ApiVersion::V4 {
            put("sessionId", self.session_id.map(|id| id.to_string()));
            put("isRootObservation", self.root.map(|root| root.to_string()));
            put("fields", Some(ALL_FIELDS.to_owned()));
            let keys = self.whole_metadata.join(",");
            put("expandMetadata", (!keys.is_empty()).then_some(keys));
        }
        query.extend(self.environments.into_iter().map(|name| ("environment", name)));
        query
    }
}

/// Every group of fields of `GET /v2/observations`; by default only two are sent. Langfuse 4.16.0, fern definition.
const ALL_FIELDS: &str = "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context";

impl Client {
    /// Lists observations, newest first, from the endpoint of the server's version.
    ///
    /// Written observations show after 0.02 s on version 2, after about 6 s on version 3 and about 1 s on version 4.
    ///
    /// # Errors
    /// The stream's items.
    pub fn observations(&self, filter: ObservationFilter) -> Rows<Observation> {
        let client = self.clone();
        rows(self, async move {
            let operation = "list observations";
            let version = client.api().await?;
            let query = filter.query(version);
            Ok(match version {
                ApiVersion::V4 => List::cursor(operation, &["v2", "observations"], query, 1_000),
                _ => List::pages(operation, &["observations"], query),
            })
        })
    }

    /// One observation: versions 2 and 3.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Unsupported`] on version 4.
    pub async fn observation(&self, id: &ObservationId) -> Result<Observation> {
        let operation = "read an observation";
        match self.api().await? {
            version @ ApiVersion::V4 => {
                Err(unsupported(operation, version, "list the observations of its trace"))
            }
            _ => Call::get(self, operation, &["observations", id.as_str()]).read(self).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn version_4s_text_is_read_as_json_and_unknown_fields_stay() {
        let observation: Observation = serde_json::from_value(json!({
            "id": "a", "traceId": "t", "type": "GENERATION", "startTime": "2026-01-02T03:04:05.678Z",
            "input": "[{\"role\":\"user\"}]", "output": "plain", "providedModelName": "gpt-4o",
            "usageDetails": {"input": 10, "output": 5, "total": 15}, "totalCost": 0.003, "bookmarked": false,
        }))
        .unwrap();
        assert_eq!(observation.input_json(), json!([{"role": "user"}]));
        assert_eq!(observation.output_json(), json!("plain"));
        assert_eq!(observation.model.as_deref(), Some("gpt-4o"));
        assert_eq!(observation.total_tokens(), Some(15.0));
        assert_eq!(observation.cost(), Some(0.003));
        assert_eq!(observation.extra["bookmarked"], json!(false));
    }

    #[test]
    fn counts_are_written_as_integers() {
        let usage = Usage { input: Some(10.0), total_cost: Some(0.5), ..Usage::default() };
        assert_eq!(serde_json::to_string(&usage).unwrap(), r#"{"input":10,"totalCost":0.5}"#);
    }
}
