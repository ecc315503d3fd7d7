//! Traces: versions 2 and 3. Version 4 keeps none: see [`Client::observations`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    ids::{ProjectId, SessionId, TraceId},
    json::Extra,
    observation::Observation,
    page::{List, Query, Rows, rows},
    probe::{ApiVersion, unsupported},
    score::Score,
};

/// A trace, as `GET /traces` lists it or `GET /traces/{id}` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// When it began; milliseconds are kept.
    pub timestamp: Timestamp,
    /// Its name.
    pub name: Option<String>,
    /// What went in.
    #[serde(default)]
    pub input: Value,
    /// What came out.
    #[serde(default)]
    pub output: Value,
    /// The session that it belongs to.
    pub session_id: Option<SessionId>,
    /// Who caused it.
    pub user_id: Option<String>,
    /// The release of the program.
    pub release: Option<String>,
    /// The version of what was traced.
    pub version: Option<String>,
    /// Whatever the caller noted.
    #[serde(default)]
    pub metadata: Value,
    /// Labels, sorted.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether anyone with the link may see it.
    #[serde(default)]
    pub public: Option<bool>,
    /// The environment; version 2 has none.
    #[serde(default)]
    pub environment: Option<String>,
    /// The project.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// Path of its page on the server.
    #[serde(default)]
    pub html_path: Option<String>,
    /// From the first start to the last end, seconds.
    #[serde(default)]
    pub latency: Option<f64>,
    /// US dollars.
    #[serde(default)]
    pub total_cost: Option<f64>,
    /// Its observations: ids in a list, whole in the view of one trace.
    #[serde(default)]
    pub observations: Vec<Linked<Observation>>,
    /// Its scores: ids in a list, whole in the view of one trace.
    #[serde(default)]
    pub scores: Vec<Linked<Score>>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Something that an answer names by its id or shows whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Linked<T> {
    /// Its id alone.
    Id(String),
    /// All of it.
    Whole(Box<T>),
}

impl<T> Linked<T> {
    /// The object, where the answer shows it.
    pub fn whole(&self) -> Option<&T> {
        match self {
            Self::Id(_) => None,
            Self::Whole(object) => Some(object),
        }
    }
}

/// Which traces are listed. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceFilter {
    /// Of this user.
    pub user_id: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this session.
    pub session_id: Option<SessionId>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Of this version.
    pub version: Option<String>,
    /// Of this release.
    pub release: Option<String>,
    /// Of any of these environments; version 3.
    pub environments: Vec<String>,
    /// `field.asc` or `field.desc`; newest first where absent.
    pub order_by: Option<String>,
}

impl TraceFilter {
    /// All traces of a window of time, oldest first: what a copy or an export asks for.
    pub fn window(from: Timestamp, to: Timestamp) -> Self {
        let order_by = Some("timestamp.asc".to_owned());
        Self { from: Some(from), to: Some(to), order_by, ..Self::default() }
    }

    fn query(self) -> Query {
        let mut query = Query::new();
        let mut put = |key, value: Option<String>| query.extend(value.map(|value| (key, value)));
        put("userId", self.user_id);
        put("name", self.name);
        put("sessionId", self.session_id.map(|id| id.to_string()));
        put("fromTimestamp", self.from.map(|time| time.to_string()));
        put("toTimestamp", self.to.map(|time| time.to_string()));
        put("version", self.version);
        put("release", self.release);
        put("orderBy", self.order_by);
        query.extend(self.tags.into_iter().map(|tag| ("tags", tag)));
        query.extend(self.environments.into_iter().map(|name| ("environment", name)));
        query
    }
}

const INSTEAD: &str = "list observations and group them by trace";

impl Client {
    /// Lists traces, newest first unless the filter says otherwise.
    ///
    /// # Errors
    /// The stream's items; [`crate::Error::Unsupported`] on version 4.
    pub fn traces(&self, filter: TraceFilter) -> Rows<Trace> {
        let client = self.clone();
        rows(self, async move {
            let operation = "list traces";
            match client.api().await? {
                version @ ApiVersion::V4 => Err(unsupported(operation, version, INSTEAD)),
                _ => Ok(List::pages(operation, &["traces"], filter.query())),
            }
        })
    }

    /// One trace with its observations and scores.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Unsupported`] on version 4.
    pub async fn trace(&self, id: &TraceId) -> Result<Trace> {
        let operation = "read a trace";
        match self.api().await? {
            version @ ApiVersion::V4 => Err(unsupported(operation, version, INSTEAD)),
            _ => Call::get(self, operation, &["traces", id.as_str()]).read(self).await,
        }
    }

    /// Deletes a trace: versions 3 and 4, some seconds later.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] on version 2, which cannot.
    pub async fn delete_trace(&self, id: &TraceId) -> Result<()> {
        let operation = "delete a trace";
        let version = self.api().await?;
        if version == ApiVersion::V2 {
            return Err(unsupported(operation, version, "delete its rows by SQL"));
        }
        let call = Call::new(self, operation, http::Method::DELETE, &["traces", id.as_str()]);
        call.resend_is_safe().succeed(self).await.map(drop)
    }
}
