//! What is written: bodies of events, in version 2's words. OTLP takes the same bodies, see [`crate::otlp`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    ids::{DatasetRunId, ObservationId, ScoreId, SessionId, TraceId},
    json::optional_timestamp,
    observation::Usage,
};

/// A trace, or what changes of one. Absent fields leave what is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceBody {
    /// Its id.
    pub id: TraceId,
    /// When it began; the time of arrival where absent.
    #[serde(serialize_with = "optional_timestamp", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The session that it belongs to; it is made where it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// What went in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Whatever the caller notes; merged with what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// The release of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The version of what is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Labels; united with what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Whether anyone with the link may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// The environment, from version 3 on: lower case, at most 40 characters, not beginning with `langfuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

impl TraceBody {
    /// A trace without anything.
    pub fn new(id: impl Into<TraceId>) -> Self {
        Self {
            id: id.into(),
            timestamp: None,
            name: None,
            user_id: None,
            session_id: None,
            input: None,
            output: None,
            metadata: None,
            release: None,
            version: None,
            tags: None,
            public: None,
            environment: None,
        }
    }
}

/// What an observation is. Version 2 knows the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObservationKind {
    /// A piece of work.
    Span,
    /// A call of a model.
    Generation,
    /// Something that takes no time.
    Event,
    /// From version 3 on: an agent.
    Agent,
    /// From version 3 on: a call of a tool.
    Tool,
    /// From version 3 on: a step of a chain.
    Chain,
    /// From version 3 on: a look-up.
    Retriever,
    /// From version 3 on: a judgement.
    Evaluator,
    /// From version 3 on: an embedding.
    Embedding,
    /// From version 3 on: a guard.
    Guardrail,
}

impl ObservationKind {
    /// Its word on the wire, for example `generation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Generation => "generation",
            Self::Event => "event",
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Chain => "chain",
            Self::Retriever => "retriever",
            Self::Evaluator => "evaluator",
            Self::Embedding => "embedding",
            Self::Guardrail => "guardrail",
        }
    }

    /// What version 2 takes for it: the first three as they are, `Embedding` as a generation, the rest as spans.
    pub fn for_version_2(self) -> Self {
        match self {
            Self::Generation | Self::Embedding => Self::Generation,
            Self::Event => Self::Event,
            _ => Self::Span,
        }
    }
}

/// How much an observation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// For those who look for a mistake.
    Debug,
    /// As usual.
    Default,
    /// Not as it should be.
    Warning,
    /// Failed.
    Error,
}

/// An observation, or what changes of one. Absent fields leave what is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservationBody {
    /// Its id.
    pub id: ObservationId,
    /// The trace that it is part of.
    pub trace_id: TraceId,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it began.
    #[serde(serialize_with = "optional_timestamp", skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended; not of events.
    #[serde(serialize_with = "optional_timestamp", skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// The observation that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_observation_id: Option<ObservationId>,
    /// What went in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Whatever the caller notes; merged with what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// How much it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What went wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// The version of what is observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The environment, from version 3 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Generations: when the first token came.
    #[serde(serialize_with = "optional_timestamp", skip_serializing_if = "Option::is_none")]
    pub completion_start_time: Option<Timestamp>,
    /// Generations: the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Generations: the model's settings, by name; text, numbers, booleans or lists of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_parameters: Option<BTreeMap<String, Value>>,
    /// Generations: tokens and costs as version 2 counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Generations, from version 3 on: tokens by kind. Version 2 ignores it: set `usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_details: Option<BTreeMap<String, u64>>,
    /// Generations, from version 3 on: US dollars by kind. Version 2 ignores it: set `usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_details: Option<BTreeMap<String, f64>>,
    /// Generations: the prompt's name, together with its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_name: Option<String>,
    /// Generations: the prompt's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<u32>,
}

impl ObservationBody {
    /// An observation without anything.
    pub fn new(trace_id: impl Into<TraceId>, id: impl Into<ObservationId>) -> Self {
        Self {
            id: id.into(),
            trace_id: trace_id.into(),
            name: None,
            start_time: None,
            end_time: None,
            parent_observation_id: None,
            input: None,
            output: None,
            metadata: None,
            level: None,
            status_message: None,
            version: None,
            environment: None,
            completion_start_time: None,
            model: None,
            model_parameters: None,
            usage: None,
            usage_details: None,
            cost_details: None,
            prompt_name: None,
            prompt_version: None,
        }
    }
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScoreValue {
    /// Of a numeric score, or 0 and 1 of a boolean one.
    Number(f64),
    /// Of a categorical score.
    Text(String),
}

/// What kind of judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ScoreType {
    /// A number.
    Numeric,
    /// One of several words.
    Categorical,
    /// 0 or 1.
    Boolean,
}

/// A score. It judges a trace, or an observation of one; from version 3 on also a session or a dataset run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreBody {
    /// Its id; a second score of that id replaces the first.
    pub id: ScoreId,
    /// What is judged.
    pub name: String,
    /// The judgement.
    pub value: ScoreValue,
    /// The trace that it judges; needed by version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The observation that it judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation_id: Option<ObservationId>,
    /// The session that it judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The dataset run that it judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_run_id: Option<DatasetRunId>,
    /// What kind; where absent the server goes by the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_type: Option<ScoreType>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The score's configuration on the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_id: Option<String>,
    /// From version 3 on: whatever the caller notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// From version 3 on: the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

impl ScoreBody {
    fn new(name: impl Into<String>, value: ScoreValue, data_type: ScoreType) -> Self {
        Self {
            id: ScoreId::random(),
            name: name.into(),
            value,
            trace_id: None,
            observation_id: None,
            session_id: None,
            dataset_run_id: None,
            data_type: Some(data_type),
            comment: None,
            config_id: None,
            metadata: None,
            environment: None,
        }
    }

    /// A number.
    pub fn numeric(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, ScoreValue::Number(value), ScoreType::Numeric)
    }

    /// One of several words.
    pub fn categorical(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, ScoreValue::Text(value.into()), ScoreType::Categorical)
    }

    /// Yes or no.
    pub fn boolean(name: impl Into<String>, value: bool) -> Self {
        let value = ScoreValue::Number(if value { 1.0 } else { 0.0 });
        Self::new(name, value, ScoreType::Boolean)
    }

    /// Judges a trace.
    pub fn of_trace(mut self, id: impl Into<TraceId>) -> Self {
        self.trace_id = Some(id.into());
        self
    }

    /// Judges an observation of a trace.
    pub fn of_observation(
        mut self,
        trace: impl Into<TraceId>,
        id: impl Into<ObservationId>,
    ) -> Self {
        self.trace_id = Some(trace.into());
        self.observation_id = Some(id.into());
        self
    }

    /// Judges a session: from version 3 on.
    pub fn of_session(mut self, id: impl Into<SessionId>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Judges a dataset run: from version 3 on.
    pub fn of_run(mut self, id: impl Into<DatasetRunId>) -> Self {
        self.dataset_run_id = Some(id.into());
        self
    }
}
