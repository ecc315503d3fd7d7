//! The attributes that Langfuse reads from a span. Names: recordings of SDK 3.15.0 to 5.0.4 and server 4.16.0.

use serde_json::Value;

use super::SpanRecord;
use crate::{
    ids::{DatasetId, DatasetItemId, DatasetRunId, ObservationId},
    ingestion::Level,
    json::as_text,
};

/// A run over a dataset, as version 4 wants it on every span of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// The run's id, see [`crate::experiment_id`].
    pub id: DatasetRunId,
    /// The run's name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Whatever the caller notes of the run.
    pub metadata: Option<Value>,
    /// The dataset; `None` for a run over items that are on no server.
    pub dataset_id: Option<DatasetId>,
    /// The item.
    pub item_id: DatasetItemId,
    /// What the item should give.
    pub item_expected_output: Option<Value>,
    /// Whatever is noted of the item.
    pub item_metadata: Option<Value>,
    /// The observation that did the item's work.
    pub root_observation_id: ObservationId,
}

/// An attribute's value; the server takes other types as text of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AttributeValue {
    Text(String),
    Bool(bool),
    Int(i64),
    Texts(Vec<String>),
}

pub(super) type Attributes = Vec<(String, AttributeValue)>;

/// All attributes of a span.
pub(super) fn attributes(record: &SpanRecord<'_>) -> Attributes {
    let mut list = List::default();
    trace(record, &mut list);
    observation(record, &mut list);
    generation(record, &mut list);
    if let Some(experiment) = record.experiment {
        run(experiment, &mut list);
    }
    list.0
}

fn trace(record: &SpanRecord<'_>, list: &mut List) {
    let trace = record.trace;
    list.text("user.id", trace.user_id.as_deref());
    list.text("session.id", trace.session_id.as_ref().map(|id| id.as_str()));
    list.metadata("langfuse.trace.metadata", trace.metadata.as_ref());
    if let Some(tags) = &trace.tags {
        list.put("langfuse.trace.tags", AttributeValue::Texts(tags.clone()));
    }
    list.text("langfuse.trace.name", trace.name.as_deref());
    if let Some(public) = trace.public {
        list.put("langfuse.trace.public", AttributeValue::Bool(public));
    }
    list.json("langfuse.trace.input", trace.input.as_ref());
    list.json("langfuse.trace.output", trace.output.as_ref());
    list.text("langfuse.release", trace.release.as_deref());
    let observation = record.observation;
    let environment = observation.environment.as_deref().or(trace.environment.as_deref());
    list.text("langfuse.environment", environment);
    list.text("langfuse.version", observation.version.as_deref().or(trace.version.as_deref()));
    if observation.parent_observation_id.is_none() {
        list.put("langfuse.internal.is_app_root", AttributeValue::Bool(true));
    }
}

fn observation(record: &SpanRecord<'_>, list: &mut List) {
    let observation = record.observation;
    list.text("langfuse.observation.type", Some(record.kind.as_str()));
    let level = observation.level.map(|level| match level {
        Level::Debug => "DEBUG",
        Level::Default => "DEFAULT",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
    });
    list.text("langfuse.observation.level", level);
    list.text("langfuse.observation.status_message", observation.status_message.as_deref());
    list.json("langfuse.observation.input", observation.input.as_ref());
    list.json("langfuse.observation.output", observation.output.as_ref());
    list.metadata("langfuse.observation.metadata", observation.metadata.as_ref());
}

fn generation(record: &SpanRecord<'_>, list: &mut List) {
    let observation = record.observation;
    list.text("langfuse.observation.model.name", observation.model.as_deref());
    list.encoded("langfuse.observation.model.parameters", observation.model_parameters.as_ref());
    list.encoded("langfuse.observation.usage_details", usage_details(record).as_ref());
    list.encoded("langfuse.observation.cost_details", cost_details(record).as_ref());
    // The SDKs write this one time as a JSON string, quotes included.
    let first_token = observation.completion_start_time.map(|time| format!("\"{time:.6}\""));
    list.text("langfuse.observation.completion_start_time", first_token.as_deref());
    list.text("langfuse.observation.prompt.name", observation.prompt_name.as_deref());
    if let Some(version) = observation.prompt_version {
        list.put("langfuse.observation.prompt.version", AttributeValue::Int(version.into()));
    }
}

/// The details as given, else made of version 2's usage.
fn usage_details(record: &SpanRecord<'_>) -> Option<Value> {
    let observation = record.observation;
    if let Some(details) = &observation.usage_details {
        return serde_json::to_value(details).ok();
    }
    let usage = serde_json::to_value(observation.usage.as_ref()?).ok()?;
    pick(&usage, [("input", "input"), ("output", "output"), ("total", "total")])
}

fn cost_details(record: &SpanRecord<'_>) -> Option<Value> {
    let observation = record.observation;
    if let Some(details) = &observation.cost_details {
        return serde_json::to_value(details).ok();
    }
    let usage = serde_json::to_value(observation.usage.as_ref()?).ok()?;
    pick(&usage, [("input", "inputCost"), ("output", "outputCost"), ("total", "totalCost")])
}

fn pick(from: &Value, names: [(&str, &str); 3]) -> Option<Value> {
    let found =
        names.into_iter().filter_map(|(name, key)| Some((name.to_owned(), from.get(key)?.clone())));
    let found: serde_json::Map<String, Value> = found.collect();
    (!found.is_empty()).then_some(Value::Object(found))
}

fn run(experiment: &Experiment, list: &mut List) {
    list.text("langfuse.experiment.id", Some(experiment.id.as_str()));
    list.text("langfuse.experiment.name", Some(&experiment.name));
    list.text("langfuse.experiment.description", experiment.description.as_deref());
    list.json("langfuse.experiment.metadata", experiment.metadata.as_ref());
    list.text(
        "langfuse.experiment.dataset.id",
        experiment.dataset_id.as_ref().map(|id| id.as_str()),
    );
    list.text("langfuse.experiment.item.id", Some(experiment.item_id.as_str()));
    let expected = experiment.item_expected_output.as_ref();
    list.json("langfuse.experiment.item.expected_output", expected);
    list.json("langfuse.experiment.item.metadata", experiment.item_metadata.as_ref());
    let root = Some(experiment.root_observation_id.as_str());
    list.text("langfuse.experiment.item.root_observation_id", root);
}

#[derive(Default)]
struct List(Attributes);

impl List {
    fn put(&mut self, key: &str, value: AttributeValue) {
        self.0.push((key.to_owned(), value));
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(key, AttributeValue::Text(text.to_owned()));
        }
    }

    /// Text as it is, everything else as JSON.
    fn json(&mut self, key: &str, value: Option<&Value>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.put(key, AttributeValue::Text(as_text(value)));
        }
    }

    fn encoded(&mut self, key: &str, value: Option<&impl serde::Serialize>) {
        let text = value.and_then(|value| serde_json::to_string(value).ok());
        self.text(key, text.as_deref());
    }

    /// An attribute per key of an object, so that the server can filter by it; anything else under the bare name.
    fn metadata(&mut self, name: &str, value: Option<&Value>) {
        match value {
            Some(Value::Object(fields)) => {
                for (key, value) in fields {
                    let name = format!("{name}.{key}");
                    match (value.as_i64(), value) {
                        (Some(number), _) => self.put(&name, AttributeValue::Int(number)),
                        (_, Value::Bool(value)) => self.put(&name, AttributeValue::Bool(*value)),
                        _ => self.json(&name, Some(value)),
                    }
                }
            }
            other => self.json(name, other),
        }
    }
}
