//! Events, validated.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use sha2::{Digest as _, Sha256};

use super::{
    Refusal,
    check::{Json, Time, Whole, json, parameters, value},
};
use crate::respond::without_nul;

/// An event that is valid.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) timestamp: Time,
    /// It changes what another event creates, and so comes after it.
    pub(crate) update: bool,
    pub(crate) action: Action,
}

/// What an event does.
#[derive(Debug)]
pub(crate) enum Action {
    Trace(Box<TraceBody>),
    Observation(Kind, Box<ObservationBody>),
    /// `observation-update`: fails where the observation does not exist.
    Existing(Kind, Box<ObservationBody>),
    Score(Box<ScoreBody>),
    /// An SDK's own log: taken, kept nowhere, as in version 2.
    Log,
}

/// What an observation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Kind {
    Span,
    Event,
    Generation,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Span => "SPAN",
            Self::Event => "EVENT",
            Self::Generation => "GENERATION",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceBody {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) timestamp: Option<Time>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) external_id: Option<String>,
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    #[serde(default)]
    pub(crate) session_id: Option<String>,
    #[serde(default, deserialize_with = "json")]
    pub(crate) input: Option<Json>,
    #[serde(default, deserialize_with = "json")]
    pub(crate) output: Option<Json>,
    #[serde(default, deserialize_with = "value")]
    pub(crate) metadata: Option<Value>,
    #[serde(default)]
    pub(crate) release: Option<String>,
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) public: Option<bool>,
    #[serde(default)]
    pub(crate) tags: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObservationBody {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) trace_id: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<Kind>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) start_time: Option<Time>,
    #[serde(default)]
    pub(crate) end_time: Option<Time>,
    #[serde(default)]
    pub(crate) completion_start_time: Option<Time>,
    #[serde(default)]
    pub(crate) parent_observation_id: Option<String>,
    #[serde(default, deserialize_with = "json")]
    pub(crate) input: Option<Json>,
    #[serde(default, deserialize_with = "json")]
    pub(crate) output: Option<Json>,
    #[serde(default, deserialize_with = "value")]
    pub(crate) metadata: Option<Value>,
    #[serde(default)]
    pub(crate) level: Option<Level>,
    #[serde(default)]
    pub(crate) status_message: Option<String>,
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default, deserialize_with = "parameters")]
    pub(crate) model_parameters: Option<Value>,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
    #[serde(default)]
    pub(crate) prompt_name: Option<String>,
    #[serde(default)]
    pub(crate) prompt_version: Option<Whole>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    Debug,
    Default,
    Warning,
    Error,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Default => "DEFAULT",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Unit {
    Characters,
    Tokens,
    Milliseconds,
    Seconds,
    Images,
    Requests,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Characters => "CHARACTERS",
            Self::Tokens => "TOKENS",
            Self::Milliseconds => "MILLISECONDS",
            Self::Seconds => "SECONDS",
            Self::Images => "IMAGES",
            Self::Requests => "REQUESTS",
        }
    }
}

/// Both of version 2's shapes: its own, and OpenAI's three counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Usage {
    pub(crate) input: Option<Whole>,
    pub(crate) output: Option<Whole>,
    pub(crate) total: Option<Whole>,
    pub(crate) unit: Option<Unit>,
    pub(crate) input_cost: Option<f64>,
    pub(crate) output_cost: Option<f64>,
    pub(crate) total_cost: Option<f64>,
    prompt_tokens: Option<Whole>,
    completion_tokens: Option<Whole>,
    total_tokens: Option<Whole>,
}

impl Usage {
    fn in_own_shape(self) -> Self {
        let unit = self.unit.or(Some(Unit::Tokens));
        let counts = [self.prompt_tokens, self.completion_tokens, self.total_tokens];
        if counts.iter().all(Option::is_none) {
            return Self { unit, ..self };
        }
        let [input, output, total] = counts;
        Self { input, output, total, unit: Some(Unit::Tokens), ..Self::default() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScoreBody {
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) trace_id: String,
    #[serde(default)]
    pub(crate) observation_id: Option<String>,
    pub(crate) name: String,
    pub(crate) value: ScoreValue,
    #[serde(default)]
    pub(crate) data_type: Option<ScoreType>,
    #[serde(default)]
    pub(crate) comment: Option<String>,
    #[serde(default)]
    pub(crate) config_id: Option<String>,
    #[serde(default)]
    pub(crate) source: Option<ScoreSource>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "Expected a number or text as value")]
pub(crate) enum ScoreValue {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ScoreType {
    Numeric,
    Categorical,
    Boolean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ScoreSource {
    Api,
    Annotation,
    Eval,
}

impl ScoreBody {
    /// The type that the value has, or a sentence on why it has none.
    pub(crate) fn score_type(&self) -> Result<ScoreType, String> {
        let wrong = || {
            "Ingested score value type not valid against provided data type. Provide numeric values for numeric and boolean scores, and string values for categorical scores.".to_owned()
        };
        match (self.data_type, &self.value) {
            (None | Some(ScoreType::Numeric), ScoreValue::Number(_)) => Ok(ScoreType::Numeric),
            (None | Some(ScoreType::Categorical), ScoreValue::Text(_)) => {
                Ok(ScoreType::Categorical)
            }
            (Some(ScoreType::Boolean), ScoreValue::Number(value))
                if *value == 0.0 || *value == 1.0 =>
            {
                Ok(ScoreType::Boolean)
            }
            _ => Err(wrong()),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    timestamp: Option<Time>,
    body: Option<Box<RawValue>>,
}

/// Reads one item of a batch; a refusal comes with the id by which the answer names it.
pub(crate) fn parse(item: &RawValue) -> Result<Event, (String, Refusal)> {
    let cleaned;
    let text = match item.get().contains(r"\u0000") {
        true => {
            cleaned = clean(item.get()).map_err(|refusal| ("unknown".to_owned(), refusal))?;
            cleaned.as_str()
        }
        false => item.get(),
    };
    let named = |refusal| (id_of(text), refusal);
    let envelope: Envelope = read(text).map_err(named)?;
    let missing = |field: &str| named(Refusal::Invalid(issue(&format!("{field}: Required"))));
    let id = envelope.id.as_str().ok_or_else(|| missing("id"))?.to_owned();
    let timestamp = envelope.timestamp.ok_or_else(|| missing("timestamp"))?;
    let kind = envelope.kind.as_str().ok_or_else(|| missing("type"))?;
    let body = envelope.body.as_ref().ok_or_else(|| missing("body"))?.get();
    let action = action(kind, &id, body).map_err(|refusal| (id.clone(), refusal))?;
    Ok(Event { id, timestamp, update: kind.ends_with("-update"), action })
}

fn action(kind: &str, event: &str, body: &str) -> Result<Action, Refusal> {
    let observation = |kind, needs_id| observation(body, kind, event, needs_id);
    Ok(match kind {
        "trace-create" => {
            let mut trace: TraceBody = read(body)?;
            trace.id.get_or_insert_with(|| derived(event));
            Action::Trace(Box::new(trace))
        }
        "span-create" | "span-update" => observation(Some(Kind::Span), true)?,
        "generation-create" | "generation-update" => observation(Some(Kind::Generation), true)?,
        "event-create" => observation(Some(Kind::Event), true)?,
        "observation-create" => observation(None, false)?,
        "observation-update" => match observation(None, true)? {
            Action::Observation(kind, body) => Action::Existing(kind, body),
            other => other,
        },
        "score-create" => {
            let mut score: ScoreBody = read(body)?;
            score.id.get_or_insert_with(|| derived(event));
            score.score_type().map_err(Refusal::Invalid)?;
            Action::Score(Box::new(score))
        }
        "sdk-log" => Action::Log,
        other => {
            return Err(Refusal::Invalid(issue(&format!(
                "type: Invalid discriminator value `{other}`"
            ))));
        }
    })
}

fn observation(
    text: &str,
    kind: Option<Kind>,
    event: &str,
    needs_id: bool,
) -> Result<Action, Refusal> {
    let mut body: ObservationBody = read(text)?;
    let required = |field: &str| Refusal::Invalid(issue(&format!("body.{field}: Required")));
    if needs_id && body.id.is_none() {
        return Err(required("id"));
    }
    body.id.get_or_insert_with(|| derived(event));
    let kind = kind.or(body.kind).ok_or_else(|| required("type"))?;
    body.usage = body.usage.map(Usage::in_own_shape);
    Ok(Action::Observation(kind, Box::new(body)))
}

/// The id of a row whose body has none: the same each time the event is sent.
fn derived(event: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(event).into();
    let [half, _] = digest.as_chunks::<16>().0 else { return event.to_owned() };
    uuid::Builder::from_custom_bytes(*half).into_uuid().to_string()
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::Invalid(issue(&error.to_string())))
}

fn issue(message: &str) -> String {
    serde_json::json!([{ "code": "custom", "path": [], "message": message }]).to_string()
}

fn clean(text: &str) -> Result<String, Refusal> {
    let value: Value = read(text)?;
    Ok(without_nul(value).to_string())
}

/// The id of an item that may be anything.
fn id_of(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    value["id"].as_str().unwrap_or("unknown").to_owned()
}

/// Version 2's order of work: what creates, by time, then what updates, by time.
pub(crate) fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| (event.update, event.timestamp));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Event, (String, Refusal)> {
        parse(serde_json::from_str::<&RawValue>(text).unwrap())
    }

    #[test]
    fn a_refusal_names_the_event_where_it_has_a_name() {
        let (id, _) =
            parse_text(r#"{"id":"e","type":"trace-create","timestamp":"2026-01-02","body":{}}"#)
                .unwrap_err();
        assert_eq!(id, "e");
        let (id, _) = parse_text(r#"{"id":5,"type":"trace-create"}"#).unwrap_err();
        assert_eq!(id, "unknown");
        let (id, refusal) = parse_text(
            r#"{"id":"e","type":"generation-create","timestamp":"2026-01-02T00:00:00Z","body":{"id":"g","usage":{"input":1.5}}}"#,
        )
        .unwrap_err();
        assert_eq!(id, "e");
        assert!(matches!(refusal, Refusal::Invalid(words) if words.contains("Expected integer")));
    }

    #[test]
    fn a_body_without_an_id_gets_the_same_one_each_time() {
        let text = r#"{"id":"e","type":"trace-create","timestamp":"2026-01-02T00:00:00Z","body":{"name":"n"}}"#;
        let id = |event: Event| match event.action {
            Action::Trace(body) => body.id.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(id(parse_text(text).unwrap()), id(parse_text(text).unwrap()));
    }

    #[test]
    fn text_loses_its_nul() {
        let text = r#"{"id":"e","type":"trace-create","timestamp":"2026-01-02T00:00:00Z","body":{"id":"a\u0000b"}}"#;
        match parse_text(text).unwrap().action {
            Action::Trace(body) => assert_eq!(body.id.as_deref(), Some("ab")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn openais_counts_become_usage() {
        let usage: Usage = serde_json::from_str(r#"{"promptTokens":3,"totalTokens":3}"#).unwrap();
        let usage = usage.in_own_shape();
        assert_eq!(
            (usage.input, usage.total, usage.unit),
            (Some(Whole(3)), Some(Whole(3)), Some(Unit::Tokens))
        );
    }

    #[test]
    fn a_boolean_score_is_nothing_but_0_or_1() {
        let score = |text: &str| serde_json::from_str::<ScoreBody>(text).unwrap().score_type();
        assert_eq!(
            score(r#"{"traceId":"t","name":"n","value":1,"dataType":"BOOLEAN"}"#),
            Ok(ScoreType::Boolean)
        );
        assert!(score(r#"{"traceId":"t","name":"n","value":0.5,"dataType":"BOOLEAN"}"#).is_err());
        assert!(score(r#"{"traceId":"t","name":"n","value":"x","dataType":"NUMERIC"}"#).is_err());
    }
}
