//! What is kept of a deployment, so that the next one can tell what changed, and an evaluation what answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digests, Service};

/// The Dict of an environment with its deployments.
pub const DEPLOY_DICT: &str = "goat-deploy";

/// A deployment of the app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRecord {
    /// What each function was deployed as.
    pub functions: BTreeMap<String, Digests>,
    /// What stands in for something that the target cannot have, in sentences, by function.
    #[serde(default)]
    pub stand_ins: BTreeMap<String, Vec<String>>,
    /// Whether recorded conversations answer in the place of models.
    #[serde(default)]
    pub replays: bool,
    /// The existing Langfuse that gets the traces, where it is not the app's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces_to: Option<String>,
    /// The version set of the proxy, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// What becomes of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "parts")]
pub enum Change {
    /// It was not deployed.
    New,
    /// It is deployed like this.
    Unchanged,
    /// These parts of it are others now.
    Changed(Vec<String>),
    /// It is not sent, and stays as it is.
    Kept,
}

impl DeployRecord {
    /// Takes a function in, in the place of what was known of it.
    pub fn set(&mut self, service: &Service, digests: Digests) {
        self.functions.insert(service.name.to_owned(), digests);
        self.stand_ins.insert(service.name.to_owned(), service.stand_ins.clone());
    }

    /// The word for the version of the app that this is.
    pub fn tag(&self) -> String {
        Digests::tag(&self.functions)
    }

    /// The entry of the Dict with this record.
    pub fn key(tag: &str) -> String {
        format!("{}/{tag}", super::APP)
    }

    /// What deploying a function as `digests` changes.
    pub fn change(&self, name: &str, digests: &Digests) -> Change {
        let Some(earlier) = self.functions.get(name) else { return Change::New };
        let parts = digests.changed_since(earlier);
        if parts.is_empty() { Change::Unchanged } else { Change::Changed(parts) }
    }
}
