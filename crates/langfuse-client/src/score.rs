//! Scores: judgements of traces, observations, and from version 3 on of sessions and dataset runs.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    ids::{DatasetRunId, ObservationId, ScoreId, SessionId, TraceId},
    ingestion::ScoreBody,
    json::Extra,
    page::{List, Query, Rows, rows},
    probe::ApiVersion,
};

/// A score, as any version shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Its id.
    pub id: ScoreId,
    /// What is judged.
    pub name: String,
    /// The judgement: a number, a word or a boolean, by type and version.
    #[serde(default)]
    pub value: Value,
    /// The word of a categorical or boolean score, versions 2 and 3.
    #[serde(default)]
    pub string_value: Option<String>,
    /// `NUMERIC`, `CATEGORICAL`, `BOOLEAN`; from version 3 on also others.
    #[serde(default)]
    pub data_type: Option<String>,
    /// `API`, `ANNOTATION` or `EVAL`.
    #[serde(default)]
    pub source: Option<String>,
    /// The trace that it judges.
    #[serde(default)]
    pub trace_id: Option<TraceId>,
    /// The observation that it judges.
    #[serde(default)]
    pub observation_id: Option<ObservationId>,
    /// The session that it judges.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// The dataset run that it judges.
    #[serde(default)]
    pub dataset_run_id: Option<DatasetRunId>,
    /// Version 4: what it judges, as the server says.
    #[serde(default)]
    pub subject: Option<Value>,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
    /// When. Version 2 sets the time of arrival, whatever was sent.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which scores are listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreFilter {
    /// Of this name.
    pub name: Option<String>,
    /// Of this trace: from version 3 on the server looks, on version 2 this client does.
    pub trace_id: Option<TraceId>,
    /// Of the traces of this user; versions 2 and 3.
    pub user_id: Option<String>,
    /// `API`, `ANNOTATION` or `EVAL`.
    pub source: Option<String>,
    /// `NUMERIC`, `CATEGORICAL` or `BOOLEAN`.
    pub data_type: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

impl ScoreFilter {
    fn query(&self, version: ApiVersion) -> Query {
        let mut query = Query::new();
        let mut put = |key, value: Option<String>| query.extend(value.map(|value| (key, value)));
        put("name", self.name.clone());
        put("source", self.source.clone());
        put("dataType", self.data_type.clone());
        put("fromTimestamp", self.from.map(|time| time.to_string()));
        put("toTimestamp", self.to.map(|time| time.to_string()));
        if version != ApiVersion::V2 {
            put("traceId", self.trace_id.as_ref().map(ToString::to_string));
        }
        if version == ApiVersion::V4 {
            put("fields", Some("details,subject,annotation".to_owned()));
        } else {
            put("userId", self.user_id.clone());
        }
        query
    }
}

/// What version 2 and 3 answer to a new score.
#[derive(Debug, Deserialize)]
struct Created {
    id: ScoreId,
}

impl Client {
    /// Lists scores, newest first, from the endpoint of the server's version.
    ///
    /// # Errors
    /// The stream's items.
    pub fn scores(&self, filter: ScoreFilter) -> Rows<Score> {
        use futures::{StreamExt as _, future};

        let client = self.clone();
        let wanted = filter.trace_id.clone();
        let listed = rows(self, async move {
            let operation = "list scores";
            let version = client.api().await?;
            let query = filter.query(version);
            Ok(match version {
                ApiVersion::V2 => List::pages(operation, &["scores"], query),
                ApiVersion::V3 => List::pages(operation, &["v2", "scores"], query),
                ApiVersion::V4 => List::cursor(operation, &["v3", "scores"], query, 100),
            })
        });
        let Some(wanted) = wanted else { return listed };
        // Version 2 has no such filter. Version 4 may name the trace in `subject` alone, and has filtered already.
        let other = move |score: &Score| score.trace_id.as_ref().is_some_and(|id| *id != wanted);
        listed
            .filter(move |row| future::ready(!row.as_ref().is_ok_and(|score: &Score| other(score))))
            .boxed()
    }

    /// Writes one score at once; for many, send them through [`Client::ingestion`].
    ///
    /// # Errors
    /// [`crate::Error::Refused`] where the score judges nothing or too much: version 2 wants a trace.
    pub async fn create_score(&self, score: &ScoreBody) -> Result<ScoreId> {
        let call = Call::new(self, "write a score", Method::POST, &["scores"]).json(score)?;
        // The body names its id, so a second one replaces the first.
        let answer = call.resend_is_safe().succeed(self).await?;
        // Servers newer than 4.16 answer 202 without an id.
        let created: Option<Created> = serde_json::from_slice(&answer.body).ok();
        Ok(created.map_or_else(|| score.id.clone(), |created| created.id))
    }

    /// Deletes a score. Versions 3 and 4 do so later, and do not say where it did not exist.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] on version 2.
    pub async fn delete_score(&self, id: &ScoreId) -> Result<()> {
        let call = Call::new(self, "delete a score", Method::DELETE, &["scores", id.as_str()]);
        call.resend_is_safe().succeed(self).await.map(drop)
    }
}
