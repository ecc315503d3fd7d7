//! Rows on their way into the database. An absent column keeps what is stored, or takes the column's default.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// A row of `traces`.
#[derive(Debug, Default, Serialize)]
pub(super) struct TraceRow<'e> {
    pub(super) id: &'e str,
    /// Not stored yet.
    pub(super) fresh: bool,
    pub(super) timestamp: Option<String>,
    pub(super) name: Option<&'e str>,
    pub(super) external_id: Option<&'e str>,
    pub(super) user_id: Option<&'e str>,
    pub(super) session_id: Option<&'e str>,
    pub(super) release: Option<&'e str>,
    pub(super) version: Option<&'e str>,
    pub(super) public: Option<bool>,
    pub(super) input: Option<&'e RawValue>,
    pub(super) output: Option<&'e RawValue>,
    pub(super) metadata: Option<Value>,
    pub(super) tags: Option<Vec<String>>,
}

/// A row of `observations`.
#[derive(Debug, Default, Serialize)]
pub(super) struct ObservationRow<'e> {
    pub(super) id: &'e str,
    pub(super) fresh: bool,
    pub(super) r#type: &'static str,
    pub(super) trace_id: Option<&'e str>,
    pub(super) name: Option<&'e str>,
    pub(super) start_time: Option<String>,
    pub(super) end_time: Option<String>,
    pub(super) completion_start_time: Option<String>,
    pub(super) parent_observation_id: Option<&'e str>,
    pub(super) input: Option<&'e RawValue>,
    pub(super) output: Option<&'e RawValue>,
    pub(super) metadata: Option<Value>,
    pub(super) level: Option<&'static str>,
    pub(super) status_message: Option<&'e str>,
    pub(super) version: Option<&'e str>,
    pub(super) model: Option<&'e str>,
    pub(super) model_parameters: Option<&'e Value>,
    pub(super) prompt_id: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) internal_model: Option<String>,
    pub(super) internal_model_id: Option<String>,
    pub(super) prompt_tokens: Option<i64>,
    pub(super) completion_tokens: Option<i64>,
    pub(super) total_tokens: Option<i64>,
    pub(super) input_cost: Option<String>,
    pub(super) output_cost: Option<String>,
    pub(super) total_cost: Option<String>,
    pub(super) calculated_input_cost: Option<String>,
    pub(super) calculated_output_cost: Option<String>,
    pub(super) calculated_total_cost: Option<String>,
}

/// A row of `scores`; a second score of the id replaces the first.
#[derive(Debug, Serialize)]
pub(super) struct ScoreRow<'e> {
    pub(super) id: &'e str,
    pub(super) fresh: bool,
    pub(super) name: &'e str,
    pub(super) value: Option<f64>,
    pub(super) string_value: Option<&'e str>,
    pub(super) data_type: &'static str,
    pub(super) source: &'static str,
    pub(super) trace_id: &'e str,
    pub(super) observation_id: Option<&'e str>,
    pub(super) comment: Option<&'e str>,
    pub(super) config_id: Option<&'e str>,
}
