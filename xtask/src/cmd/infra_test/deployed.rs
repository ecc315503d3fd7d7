//! What is deployed, as far as the checks differ by it: traces go to the app's own Langfuse, or to one that is there
//! already.

use anyhow::{Context as _, ensure};
use goat_services::app::{APP, DeployRecord, LANGFUSE, LITELLM};
use litellm_config::VersionSet;

use crate::{
    backend,
    context::Context,
    services::{self, Current},
};

/// A deployment with all that its checks need.
pub(super) struct Deployed {
    version: u32,
    /// What runs together in it.
    pub(super) set: &'static VersionSet,
    /// The Langfuse that gets its traces, where that is not the app's own.
    pub(super) existing: Option<String>,
    /// Whether `deploy` sent it.
    is_ours: bool,
}

impl Deployed {
    /// Looks it up.
    ///
    /// # Errors
    /// There is none, or a function is missing.
    pub(super) async fn look(context: &Context) -> anyhow::Result<Self> {
        let environment = &context.environment;
        let current = current(context).await?;
        let current = current
            .with_context(|| format!("{APP} is not deployed in environment `{environment}`"))?;
        let record = current.record.clone().unwrap_or_default();
        let needed: &[&str] = match &record.traces_to {
            Some(_) => &[LITELLM],
            None => &[LITELLM, LANGFUSE],
        };
        for name in needed {
            ensure!(current.has(name), "version {} of {APP} has no {name}", current.version);
        }
        Ok(Self {
            version: current.version,
            set: set(&record),
            existing: record.traces_to,
            is_ours: current.record.is_some(),
        })
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let by = if self.is_ours { "" } else { ", deployed by something else than `deploy`" };
        let to = self.existing.as_ref().map(|url| format!("; its traces go to {url}"));
        format!("version {} of {APP}{by}{}", self.version, to.unwrap_or_default())
    }
}

/// Nothing where the environment itself is not there.
async fn current(context: &Context) -> anyhow::Result<Option<Current>> {
    let (client, _) = backend::client(context).await?;
    match services::current(&client).await {
        Ok(current) => Ok(current),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set(record: &DeployRecord) -> &'static VersionSet {
    let named = record.set.as_deref().and_then(VersionSet::named);
    named.unwrap_or_else(VersionSet::default_set)
}
