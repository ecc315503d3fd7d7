//! Which version set: by name, or by the Langfuse that traces go to.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use langfuse_client::{Client, Config, RetryPolicy};
use litellm_config::VersionSet;

use crate::exit::UsageError;

/// Which versions run together.
#[derive(clap::Args)]
pub(crate) struct Versions {
    /// Version set; `cargo xtask litellm models --sets` lists them
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Option<String>,
    /// An existing Langfuse that traces go to: its version chooses the set. Its keys are LANGFUSE_PUBLIC_KEY and
    /// LANGFUSE_SECRET_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) langfuse_url: Option<String>,
    /// Major version of the Langfuse server, instead of asking it
    #[arg(long, value_name = "N")]
    pub(crate) langfuse_version: Option<u32>,
}

impl Versions {
    /// The set, and the server's major version where it is known. A pair that loses traces is refused.
    pub(crate) async fn choose(
        &self,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<(&'static VersionSet, Option<u32>)> {
        let server = match (&self.langfuse_url, self.langfuse_version) {
            (_, Some(version)) => Some(version),
            (Some(url), None) => Some(ask(url, variables).await?),
            (None, None) => None,
        };
        self.settled(server)
    }

    /// The set that was asked for by its name.
    pub(crate) fn named_set(&self) -> anyhow::Result<Option<&'static VersionSet>> {
        self.set.as_deref().map(named).transpose()
    }

    /// The same without asking anybody.
    fn settled(&self, server: Option<u32>) -> anyhow::Result<(&'static VersionSet, Option<u32>)> {
        let set = match (&self.set, server) {
            (Some(name), _) => named(name)?,
            (None, Some(server)) => {
                VersionSet::for_langfuse(server).map_err(|error| UsageError(error.to_string()))?
            }
            (None, None) => VersionSet::default_set(),
        };
        Ok((set, server))
    }

    /// Refuses what would lose traces.
    pub(crate) fn must_deliver(set: &VersionSet, server: Option<u32>) -> anyhow::Result<()> {
        if let Some(server) = server {
            set.with_server(server).check().map_err(|error| UsageError(error.to_string()))?;
        }
        Ok(())
    }
}

fn named(name: &str) -> anyhow::Result<&'static VersionSet> {
    VersionSet::named(name).ok_or_else(|| {
        let all: Vec<_> = VersionSet::all().iter().map(|set| set.name.as_str()).collect();
        UsageError(format!("no version set `{name}`; there are {}", all.join(", "))).into()
    })
}

/// The server's major version.
async fn ask(url: &str, variables: &BTreeMap<String, String>) -> anyhow::Result<u32> {
    let missing = ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"];
    let missing: Vec<_> =
        missing.into_iter().filter(|name| !variables.contains_key(*name)).collect();
    if !missing.is_empty() {
        let what =
            format!("--langfuse-url needs that server's keys; {} not set", missing.join(" and "));
        return Err(UsageError(what).into());
    }
    let config = Config::from_vars(|name| match name {
        "LANGFUSE_HOST" | "LANGFUSE_BASE_URL" => Some(url.to_owned()),
        _ => variables.get(name).cloned(),
    })
    .map_err(|error| UsageError(format!("--langfuse-url: {error}")))?;
    let config = config.with_timeout(Duration::from_secs(10)).with_retry(RetryPolicy::never());
    let health = Client::new(config)?.health().await;
    let health = health.with_context(|| {
        format!("Langfuse at {url} does not say its version; --langfuse-version N says it instead")
    })?;
    health
        .major()
        .with_context(|| format!("Langfuse at {url} says the version `{}`", health.version))
}
