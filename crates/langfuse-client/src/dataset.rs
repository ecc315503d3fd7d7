//! Datasets, their items, and runs over them.
//!
//! Versions 2 and 3 link an item to a trace by a run item. In version 4 that call is taken and writes nothing: the
//! link is made by attributes on spans, see [`crate::otlp::Experiment`], and runs are read as experiments.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    client::Client,
    error::Result,
    http_call::Call,
    ids::{DatasetId, DatasetItemId, DatasetRunId, ObservationId, ProjectId, TraceId},
    json::Extra,
    page::{List, Query, Rows, rows},
    probe::{ApiVersion, unsupported},
};

/// A dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// Its id.
    pub id: DatasetId,
    /// Its name, unique in the project.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whatever the caller noted.
    #[serde(default)]
    pub metadata: Value,
    /// The project.
    pub project_id: Option<ProjectId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A dataset to be made, or changed where the name exists.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NewDataset {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whatever the caller notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// An item of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetItem {
    /// Its id, unique in the project.
    pub id: DatasetItemId,
    /// `ACTIVE` or `ARCHIVED`.
    pub status: String,
    /// What goes in.
    #[serde(default)]
    pub input: Value,
    /// What should come out.
    #[serde(default)]
    pub expected_output: Value,
    /// Whatever the caller noted.
    #[serde(default)]
    pub metadata: Value,
    /// The trace that it was made from.
    pub source_trace_id: Option<TraceId>,
    /// The observation that it was made from.
    pub source_observation_id: Option<ObservationId>,
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The dataset's name.
    pub dataset_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An item to be made, or changed where the id exists.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewDatasetItem {
    /// The dataset's name; it must exist.
    pub dataset_name: String,
    /// Its id: of the caller's choice, so that sending it twice makes one item.
    pub id: DatasetItemId,
    /// What goes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What should come out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_output: Option<Value>,
    /// Whatever the caller notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// The trace that it is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_trace_id: Option<TraceId>,
    /// The observation that it is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_observation_id: Option<ObservationId>,
    /// `ACTIVE` or `ARCHIVED`; active where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl NewDatasetItem {
    /// An item without content.
    pub fn new(dataset: impl Into<String>, id: impl Into<DatasetItemId>) -> Self {
        Self {
            dataset_name: dataset.into(),
            id: id.into(),
            input: None,
            expected_output: None,
            metadata: None,
            source_trace_id: None,
            source_observation_id: None,
            status: None,
        }
    }
}

/// A run over a dataset: versions 2 and 3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRun {
    /// Its id.
    pub id: DatasetRunId,
    /// Its name, unique in the dataset.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Whatever the caller noted.
    #[serde(default)]
    pub metadata: Value,
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The dataset's name.
    pub dataset_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Its items: only in the view of one run.
    #[serde(default)]
    pub dataset_run_items: Vec<DatasetRunItem>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The link between an item and the trace that a run made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRunItem {
    /// Its id.
    pub id: String,
    /// The run; in version 4 the id of the experiment, and nothing was written.
    pub dataset_run_id: DatasetRunId,
    /// The run's name.
    pub dataset_run_name: String,
    /// The item.
    pub dataset_item_id: DatasetItemId,
    /// The trace.
    pub trace_id: TraceId,
    /// The observation.
    pub observation_id: Option<ObservationId>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A link to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewDatasetRunItem {
    /// The run's name; it is made where it does not exist.
    pub run_name: String,
    /// What the run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_description: Option<String>,
    /// Whatever the caller notes of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// The item.
    pub dataset_item_id: DatasetItemId,
    /// The trace.
    pub trace_id: TraceId,
    /// The observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation_id: Option<ObservationId>,
}

/// The id that version 4 and its SDKs give a run: 16 hex digits.
///
/// The first of the SHA-256 of compact JSON `["langfuse-experiment-v1",project,dataset,run]`; equal to what server
/// 4.16.0 and SDK 5.0.4 compute.
pub fn experiment_id(project: &ProjectId, dataset: &DatasetId, run: &str) -> DatasetRunId {
    let parts = ["langfuse-experiment-v1", project.as_str(), dataset.as_str(), run];
    let json = serde_json::Value::from(parts.to_vec()).to_string();
    DatasetRunId::new(&hex::encode(Sha256::digest(json))[..16])
}

impl Client {
    /// Lists datasets.
    pub fn datasets(&self) -> Rows<Dataset> {
        rows(self, async { Ok(List::pages("list datasets", &["v2", "datasets"], Query::new())) })
    }

    /// One dataset by name. A slash or a space in it is no problem here.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn dataset(&self, name: &str) -> Result<Dataset> {
        Call::get(self, "read a dataset", &["v2", "datasets", name]).read(self).await
    }

    /// Makes a dataset, or changes the one of that name.
    ///
    /// # Errors
    /// As every write.
    pub async fn create_dataset(&self, dataset: &NewDataset) -> Result<Dataset> {
        let call = Call::new(self, "make a dataset", Method::POST, &["v2", "datasets"]);
        call.resend_is_safe().json(dataset)?.read(self).await
    }

    /// Lists the items of a dataset.
    pub fn dataset_items(&self, dataset: &str) -> Rows<DatasetItem> {
        let query = vec![("datasetName", dataset.to_owned())];
        rows(self, async { Ok(List::pages("list dataset items", &["dataset-items"], query)) })
    }

    /// Makes an item, or changes the one of that id.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] where the dataset is missing.
    pub async fn create_dataset_item(&self, item: &NewDatasetItem) -> Result<DatasetItem> {
        let call = Call::new(self, "make a dataset item", Method::POST, &["dataset-items"]);
        call.resend_is_safe().json(item)?.read(self).await
    }

    /// Lists the runs over a dataset: versions 2 and 3.
    ///
    /// # Errors
    /// The stream's items; [`crate::Error::Unsupported`] on version 4.
    pub fn dataset_runs(&self, dataset: &str) -> Rows<DatasetRun> {
        let (client, dataset) = (self.clone(), dataset.to_owned());
        rows(self, async move {
            let operation = "list dataset runs";
            let version = client.api().await?;
            if version == ApiVersion::V4 {
                return Err(unsupported(operation, version, "list experiments"));
            }
            Ok(List::pages(operation, &["datasets", &dataset, "runs"], Query::new()))
        })
    }

    /// One run with its items: versions 2 and 3.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Unsupported`] on version 4.
    pub async fn dataset_run(&self, dataset: &str, run: &str) -> Result<DatasetRun> {
        let operation = "read a dataset run";
        let version = self.api().await?;
        if version == ApiVersion::V4 {
            return Err(unsupported(operation, version, "list the items of the experiment"));
        }
        Call::get(self, operation, &["datasets", dataset, "runs", run]).read(self).await
    }

    /// Links an item to a trace: versions 2 and 3.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] on version 4, which would answer well and write nothing.
    pub async fn create_dataset_run_item(
        &self,
        link: &NewDatasetRunItem,
    ) -> Result<DatasetRunItem> {
        let operation = "link a dataset item to a trace";
        let version = self.api().await?;
        if version == ApiVersion::V4 {
            return Err(unsupported(operation, version, "set `Experiment` on the trace's spans"));
        }
        let call = Call::new(self, operation, Method::POST, &["dataset-run-items"]);
        call.json(link)?.read(self).await
    }

    /// Lists experiments that began at or after `from`: version 4.
    ///
    /// # Errors
    /// The stream's items; [`crate::Error::Unsupported`] before version 4.
    pub fn experiments(&self, from: Timestamp) -> Rows<Value> {
        self.experiment_rows("list experiments", "experiments", vec![], from)
    }

    /// Lists the items of an experiment that began at or after `from`: version 4.
    ///
    /// # Errors
    /// As [`Client::experiments`].
    pub fn experiment_items(&self, experiment: &DatasetRunId, from: Timestamp) -> Rows<Value> {
        let query = vec![("experimentId", experiment.to_string())];
        self.experiment_rows("list experiment items", "experiment-items", query, from)
    }

    fn experiment_rows(
        &self,
        operation: &'static str,
        segment: &'static str,
        mut query: Query,
        from: Timestamp,
    ) -> Rows<Value> {
        let client = self.clone();
        rows(self, async move {
            let version = client.api().await?;
            if version != ApiVersion::V4 {
                return Err(unsupported(operation, version, "list dataset runs"));
            }
            query.push(("fromStartTime", from.to_string()));
            Ok(List::cursor(operation, &[segment], query, 100))
        })
    }
}
