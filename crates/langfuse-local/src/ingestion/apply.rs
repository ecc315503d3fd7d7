//! Events applied to what is stored, in memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use super::{
    Refusal,
    check::{Json, Time, Whole},
    event::{
        Kind, ObservationBody, ScoreBody, ScoreSource, ScoreType, ScoreValue, TraceBody, Usage,
    },
    rows::{ObservationRow, ScoreRow, TraceRow},
};
use crate::models::{Costs, Model, Units, choose};

/// What is stored of a trace, as far as it matters for the next event.
#[derive(Debug, Default, Clone)]
pub(super) struct StoredTrace {
    pub(super) project_id: String,
    pub(super) metadata: Option<Value>,
    pub(super) tags: Vec<String>,
}

/// What is known of an observation: from the database, and from earlier events of the batch.
#[derive(Debug, Default, Clone)]
pub(super) struct StoredObservation {
    pub(super) in_database: bool,
    pub(super) project_id: String,
    pub(super) metadata: Option<Value>,
    pub(super) internal_model: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) units: Units,
    pub(super) costs: Costs,
}

/// Everything that a batch needs to know, and the rows that come of it.
#[derive(Debug, Default)]
pub(super) struct Batch<'e> {
    pub(super) project_id: &'e str,
    pub(super) stored_traces: BTreeMap<String, StoredTrace>,
    pub(super) stored_observations: BTreeMap<String, StoredObservation>,
    /// The project of each stored score.
    pub(super) stored_scores: BTreeMap<String, String>,
    pub(super) models: BTreeMap<String, Vec<Model>>,
    pub(super) internal_models: BTreeMap<String, Vec<Model>>,
    pub(super) prompts: BTreeMap<(String, i64), String>,
    pub(super) traces: BTreeMap<&'e str, TraceRow<'e>>,
    pub(super) observations: BTreeMap<&'e str, ObservationRow<'e>>,
    pub(super) scores: BTreeMap<&'e str, ScoreRow<'e>>,
}

impl<'e> Batch<'e> {
    pub(super) fn trace(&mut self, body: &'e TraceBody) -> Result<(), Refusal> {
        let id = body.id.as_deref().unwrap_or_default();
        let stored = self.stored_traces.get(id);
        if stored.is_some_and(|stored| stored.project_id != self.project_id) {
            return Err(Refusal::Failed);
        }
        let fresh = stored.is_none();
        let (metadata, tags) =
            stored.map(|it| (it.metadata.clone(), it.tags.clone())).unwrap_or_default();
        let row =
            self.traces.entry(id).or_insert_with(|| TraceRow { id, fresh, ..TraceRow::default() });
        if let Some(new) = &body.metadata {
            row.metadata = Some(merged(row.metadata.take().or(metadata), new));
        }
        if let Some(new) = &body.tags {
            let mut tags = row.tags.take().unwrap_or(tags);
            tags.extend(new.iter().cloned());
            tags.sort_by(|one, other| one.encode_utf16().cmp(other.encode_utf16()));
            tags.dedup();
            row.tags = Some(tags);
        }
        set(&mut row.timestamp, body.timestamp.map(Time::column));
        set(&mut row.name, body.name.as_deref());
        set(&mut row.external_id, body.external_id.as_deref());
        set(&mut row.user_id, body.user_id.as_deref());
        set(&mut row.session_id, body.session_id.as_deref().filter(|id| !id.is_empty()));
        set(&mut row.release, body.release.as_deref());
        set(&mut row.version, body.version.as_deref());
        set(&mut row.public, body.public);
        set(&mut row.input, raw(&body.input));
        set(&mut row.output, raw(&body.output));
        Ok(())
    }

    pub(super) fn observation(
        &mut self,
        kind: Kind,
        body: &'e ObservationBody,
        must_exist: bool,
        event: &str,
    ) -> Result<(), Refusal> {
        let id = body.id.as_deref().unwrap_or_default();
        let stored = self.stored_observations.get(id).cloned();
        if stored.as_ref().is_some_and(|stored| stored.project_id != self.project_id) {
            return Err(Refusal::Failed);
        }
        if must_exist && stored.is_none() {
            return Err(Refusal::NotFound(format!("Observation with id {event} not found")));
        }
        if stored.is_none() && body.trace_id.is_none() {
            self.own_trace(id, body);
        }
        let mut stored = stored.unwrap_or_default();
        let fresh = !stored.in_database;
        let model = self.model(kind, body, &stored);
        let row = self.observations.entry(id).or_insert_with(|| ObservationRow {
            id,
            fresh,
            r#type: kind.as_str(),
            trace_id: body.trace_id.as_deref().or(Some(id)),
            ..ObservationRow::default()
        });
        let prompt = body.prompt_name.as_ref().zip(body.prompt_version);
        let prompt =
            prompt.and_then(|(name, version)| self.prompts.get(&(name.clone(), version.0)));
        set(&mut row.prompt_id, prompt.cloned());
        if let Some(new) = &body.metadata {
            stored.metadata = Some(merged(stored.metadata.take(), new));
            row.metadata = stored.metadata.clone();
        }
        let usage = body.usage.as_ref();
        plain(row, body);
        if kind == Kind::Generation || usage.is_some() {
            let counts = counts(body, model.as_ref(), stored.units);
            counted(row, usage, counts, model.as_ref(), &mut stored);
        }
        // The next event of this batch sees what this one leaves.
        stored.project_id = self.project_id.to_owned();
        self.stored_observations.insert(id.to_owned(), stored);
        Ok(())
    }

    pub(super) fn score(&mut self, body: &'e ScoreBody) -> Result<(), Refusal> {
        let id = body.id.as_deref().unwrap_or_default();
        let stored = self.stored_scores.get(id);
        if stored.is_some_and(|project| project != self.project_id) {
            return Err(Refusal::Failed);
        }
        let kind = body.score_type().map_err(Refusal::Invalid)?;
        let (value, string_value) = match (&body.value, kind) {
            (ScoreValue::Number(value), ScoreType::Boolean) => {
                (Some(*value), Some(if *value == 1.0 { "True" } else { "False" }))
            }
            (ScoreValue::Number(value), _) => (Some(*value), None),
            (ScoreValue::Text(text), _) => (None, Some(text.as_str())),
        };
        let row = ScoreRow {
            id,
            fresh: stored.is_none(),
            name: &body.name,
            value,
            string_value,
            data_type: match kind {
                ScoreType::Numeric => "NUMERIC",
                ScoreType::Categorical => "CATEGORICAL",
                ScoreType::Boolean => "BOOLEAN",
            },
            source: match body.source {
                None | Some(ScoreSource::Api) => "API",
                Some(ScoreSource::Annotation) => "ANNOTATION",
                Some(ScoreSource::Eval) => "EVAL",
            },
            trace_id: &body.trace_id,
            observation_id: body.observation_id.as_deref(),
            comment: body.comment.as_deref(),
            config_id: body.config_id.as_deref(),
        };
        self.scores.insert(id, row);
        Ok(())
    }
}

/// Units in and out: as the caller says, else counted, where nobody has said so before.
fn counts(
    body: &ObservationBody,
    model: Option<&Model>,
    before: Units,
) -> (Option<i64>, Option<i64>) {
    let usage = body.usage.as_ref();
    let tokenizer = model.and_then(|model| model.tokenizer.as_ref());
    let count = |said: Option<Whole>, before: Option<i64>, text: &Option<Json>| {
        let counted = || tokenizer.filter(|_| before.is_none())?.count(text.as_ref()?.0.get());
        said.map(|count| count.0).or_else(counted)
    };
    let input = count(usage.and_then(|usage| usage.input), before.input, &body.input);
    let output = count(usage.and_then(|usage| usage.output), before.output, &body.output);
    (input, output)
}

/// Numbers, units and costs.
fn counted(
    row: &mut ObservationRow<'_>,
    usage: Option<&Usage>,
    (input, output): (Option<i64>, Option<i64>),
    model: Option<&Model>,
    stored: &mut StoredObservation,
) {
    let sum =
        || (input.is_some() || output.is_some()).then(|| input.unwrap_or(0) + output.unwrap_or(0));
    let total = usage.and_then(|usage| usage.total).map(|count| count.0).or_else(sum);
    set(&mut row.prompt_tokens, input);
    set(&mut row.completion_tokens, output);
    set(&mut row.total_tokens, total);
    stored.units = Units {
        input: input.or(stored.units.input),
        output: output.or(stored.units.output),
        total: total.filter(|total| *total != 0).or(stored.units.total),
    };
    let given = |cost: Option<f64>| cost.and_then(decimal);
    let (input, output, total) = (
        given(usage.and_then(|usage| usage.input_cost)),
        given(usage.and_then(|usage| usage.output_cost)),
        given(usage.and_then(|usage| usage.total_cost)),
    );
    let text = |cost: Option<Decimal>| cost.map(|cost| cost.to_string());
    set(&mut row.input_cost, text(input));
    set(&mut row.output_cost, text(output));
    set(&mut row.total_cost, text(total));
    stored.costs = Costs {
        input: input.or(stored.costs.input),
        output: output.or(stored.costs.output),
        total: total.or(stored.costs.total),
    };
    let costs = Costs::of(stored.costs, stored.units, model);
    set(&mut row.calculated_input_cost, text(costs.input));
    set(&mut row.calculated_output_cost, text(costs.output));
    set(&mut row.calculated_total_cost, text(costs.total));
    let unit = usage.and_then(|usage| usage.unit).map(|unit| unit.as_str().to_owned());
    let unit = unit.or_else(|| model.and_then(|model| model.unit.clone()));
    set(&mut row.unit, unit.clone());
    set(&mut stored.unit, unit);
    set(&mut row.internal_model, model.map(|model| model.name.clone()));
    set(&mut row.internal_model_id, model.map(|model| model.id.clone()));
    set(&mut stored.internal_model, model.map(|model| model.name.clone()));
}

fn plain<'e>(row: &mut ObservationRow<'e>, body: &'e ObservationBody) {
    set(&mut row.name, body.name.as_deref());
    set(&mut row.start_time, body.start_time.map(Time::column));
    set(&mut row.end_time, body.end_time.map(Time::column));
    set(&mut row.completion_start_time, body.completion_start_time.map(Time::column));
    set(&mut row.parent_observation_id, body.parent_observation_id.as_deref());
    set(&mut row.input, raw(&body.input));
    set(&mut row.output, raw(&body.output));
    set(&mut row.level, body.level.map(super::event::Level::as_str));
    set(&mut row.status_message, body.status_message.as_deref());
    set(&mut row.version, body.version.as_deref());
    set(&mut row.model, body.model.as_deref());
    set(&mut row.model_parameters, body.model_parameters.as_ref());
}

fn set<T>(column: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *column = value;
    }
}

fn raw(json: &Option<Json>) -> Option<&serde_json::value::RawValue> {
    json.as_ref().map(|json| &*json.0)
}

/// The shortest decimal that is the float, as JavaScript writes it.
fn decimal(cost: f64) -> Option<Decimal> {
    let text = cost.to_string();
    text.parse().ok().or_else(|| Decimal::from_scientific(&text).ok())
}

/// Objects are merged in depth, and arrays by position; anything else gives way to the new.
fn merged(old: Option<Value>, new: &Value) -> Value {
    match (old, new) {
        (Some(Value::Object(mut old)), Value::Object(new)) => {
            for (key, new) in new {
                let before = old.get_mut(key).map(Value::take);
                old.insert(key.clone(), merged(before, new));
            }
            Value::Object(old)
        }
        (Some(Value::Array(mut old)), Value::Array(new)) => {
            for (index, new) in new.iter().enumerate() {
                match old.get_mut(index) {
                    Some(place) => *place = merged(Some(place.take()), new),
                    None => old.push(new.clone()),
                }
            }
            Value::Array(old)
        }
        (_, new) => new.clone(),
    }
}

impl<'e> Batch<'e> {
    fn model(
        &self,
        kind: Kind,
        body: &ObservationBody,
        stored: &StoredObservation,
    ) -> Option<Model> {
        if kind != Kind::Generation {
            return None;
        }
        let found_before: Vec<Model>;
        let models = match (&body.model, &stored.internal_model) {
            (Some(name), _) => self.models.get(name)?,
            (None, Some(name)) => match self.internal_models.get(name) {
                Some(models) => models,
                // Found by an earlier event of this batch.
                None => {
                    let all = self.models.values().flatten();
                    found_before = all.filter(|model| model.name == *name).cloned().collect();
                    &found_before
                }
            },
            (None, None) => return None,
        };
        let unit = body.usage.as_ref().and_then(|usage| usage.unit).map(|unit| unit.as_str());
        let start = body.start_time.map_or_else(Timestamp::now, |time| time.0);
        choose(models, unit.or(stored.unit.as_deref()), start).cloned()
    }

    /// An observation without a trace gets one of its own, named like it.
    fn own_trace(&mut self, id: &'e str, body: &'e ObservationBody) {
        let fresh = !self.stored_traces.contains_key(id);
        let row =
            self.traces.entry(id).or_insert_with(|| TraceRow { id, fresh, ..TraceRow::default() });
        set(&mut row.name, body.name.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_merged_in_depth() {
        let old = json!({ "a": { "b": 1, "c": [1, 2, 3] }, "d": 1 });
        let new = json!({ "a": { "b": 2, "c": [9] }, "e": null });
        let both = json!({ "a": { "b": 2, "c": [9, 2, 3] }, "d": 1, "e": null });
        assert_eq!(merged(Some(old), &new), both);
        assert_eq!(merged(Some(json!("text")), &json!({ "a": 1 })), json!({ "a": 1 }));
    }

    #[test]
    fn floats_become_the_decimals_that_people_wrote() {
        let text = |cost: f64| decimal(cost).unwrap().to_string();
        assert_eq!(text(0.001), "0.001");
        assert_eq!(text(3e-7), "0.0000003");
    }
}
