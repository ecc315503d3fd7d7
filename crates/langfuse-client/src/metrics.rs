//! Sums over traces: by day in version 2, by query in versions 3 and 4.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    json::Extra,
    page::{List, Query, Rows, rows},
    probe::{ApiVersion, unsupported},
};

/// One day, version 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DailyMetrics {
    /// `2026-01-31`.
    pub date: String,
    /// Traces that began on it.
    pub count_traces: u64,
    /// Observations that began on it.
    pub count_observations: u64,
    /// US dollars.
    pub total_cost: f64,
    /// By model.
    pub usage: Vec<DailyUsage>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A model's share of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DailyUsage {
    /// The model; `None` for observations without one.
    pub model: Option<String>,
    /// Units in.
    pub input_usage: f64,
    /// Units out.
    pub output_usage: f64,
    /// Units in all.
    pub total_usage: f64,
    /// US dollars.
    pub total_cost: f64,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which traces a day's sums count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DailyFilter {
    /// Traces of this name.
    pub trace_name: Option<String>,
    /// Traces of this user.
    pub user_id: Option<String>,
    /// Traces with all of these tags.
    pub tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct QueryAnswer {
    data: Vec<Value>,
}

impl Client {
    /// Sums by day, newest first: version 2.
    ///
    /// # Errors
    /// The stream's items; [`crate::Error::Unsupported`] from version 3 on.
    pub fn daily_metrics(&self, filter: DailyFilter) -> Rows<DailyMetrics> {
        let client = self.clone();
        rows(self, async move {
            let operation = "read daily metrics";
            let version = client.api().await?;
            if version != ApiVersion::V2 {
                return Err(unsupported(operation, version, "ask by `Client::metrics`"));
            }
            let mut query = Query::new();
            query.extend(filter.trace_name.map(|name| ("traceName", name)));
            query.extend(filter.user_id.map(|id| ("userId", id)));
            query.extend(filter.tags.into_iter().map(|tag| ("tags", tag)));
            Ok(List::pages(operation, &["metrics", "daily"], query))
        })
    }

    /// Asks with a query as Langfuse's documentation describes it: versions 3 and 4.
    ///
    /// On version 4 a grouping by trace or user needs `row_limit` and `orderBy`.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] where the server does not take the query; [`crate::Error::Unsupported`] on version 2.
    pub async fn metrics(&self, query: &Value) -> Result<Vec<Value>> {
        let operation = "ask for metrics";
        let segments: &[&str] = match self.api().await? {
            ApiVersion::V4 => &["v2", "metrics"],
            ApiVersion::V3 => &["metrics"],
            version @ ApiVersion::V2 => {
                return Err(unsupported(operation, version, "ask by `Client::daily_metrics`"));
            }
        };
        let call = Call::get(self, operation, segments).query(&[("query", query.to_string())]);
        let answer: QueryAnswer = call.read(self).await?;
        Ok(answer.data)
    }
}
