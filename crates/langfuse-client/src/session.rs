//! Sessions: versions 2 and 3. Version 4 keeps none: filter observations by session.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    ids::{ProjectId, SessionId},
    json::Extra,
    page::{List, Query, Rows, rows},
    probe::{ApiVersion, unsupported},
    trace::Trace,
};

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// The project.
    pub project_id: Option<ProjectId>,
    /// Its traces: only in the view of one session.
    #[serde(default)]
    pub traces: Vec<Trace>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which sessions are listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionFilter {
    /// Not created before.
    pub from: Option<Timestamp>,
    /// Created before.
    pub to: Option<Timestamp>,
}

const INSTEAD: &str = "list observations with a session in the filter";

impl Client {
    /// Lists sessions, newest first.
    ///
    /// # Errors
    /// The stream's items; [`crate::Error::Unsupported`] on version 4.
    pub fn sessions(&self, filter: SessionFilter) -> Rows<Session> {
        let client = self.clone();
        rows(self, async move {
            let operation = "list sessions";
            let version = client.api().await?;
            if version == ApiVersion::V4 {
                return Err(unsupported(operation, version, INSTEAD));
            }
            let mut query = Query::new();
            query.extend(filter.from.map(|time| ("fromTimestamp", time.to_string())));
            query.extend(filter.to.map(|time| ("toTimestamp", time.to_string())));
            Ok(List::pages(operation, &["sessions"], query))
        })
    }

    /// One session with its traces.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Unsupported`] on version 4.
    pub async fn session(&self, id: &SessionId) -> Result<Session> {
        let operation = "read a session";
        match self.api().await? {
            version @ ApiVersion::V4 => Err(unsupported(operation, version, INSTEAD)),
            _ => Call::get(self, operation, &["sessions", id.as_str()]).read(self).await,
        }
    }
}
