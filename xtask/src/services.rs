//! The deployed services, as other commands need them: which version, where, and what is known of it.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    time::{Duration, SystemTime},
};

use goat_services::app::{APP, DEPLOY_DICT, DeployRecord, LANGFUSE, LANGFUSE_QUERY, LITELLM};
use modal_client::{App, AppVersion, Client};

use crate::target::Target;

/// What is deployed now.
pub(crate) struct Current {
    /// The app.
    pub(crate) app: App,
    /// Its version.
    pub(crate) version: u32,
    /// What is known of it; nothing if it was deployed by something else than `deploy`.
    pub(crate) record: Option<DeployRecord>,
    /// Its functions, those of the web with their addresses.
    functions: BTreeMap<String, String>,
}

impl Current {
    /// Whether it has that function.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// Where a function is.
    pub(crate) fn url(&self, name: &str) -> Option<&str> {
        self.functions.get(name).map(String::as_str).filter(|url| !url.is_empty())
    }
}

/// What is deployed of the app in the client's environment; nothing where it was never deployed, or stopped.
pub(crate) async fn current(client: &Client) -> modal_client::Result<Option<Current>> {
    let app = match client.apps().by_name(APP).await {
        Ok(app) => app,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let history = client.apps().history(&app.id).await?;
    let Some(newest) = history.first() else { return Ok(None) };
    // A version that repeats another is that other one.
    let original = |version: &AppVersion| {
        let of = version.rollback_of?;
        history.iter().find(|it| it.version == of)
    };
    let tag = newest.tag.clone().or_else(|| original(newest)?.tag.clone());
    let record = match tag {
        Some(tag) => record(client, &tag).await?,
        None => None,
    };
    let functions = functions(client, &[LITELLM, LANGFUSE, LANGFUSE_QUERY]).await?;
    Ok(Some(Current { app, version: newest.version, record, functions }))
}

/// The addresses of the web functions that are deployed.
pub(crate) async fn urls(client: &Client) -> modal_client::Result<BTreeMap<String, String>> {
    functions(client, &[LITELLM, LANGFUSE]).await
}

async fn functions(
    client: &Client,
    names: &[&str],
) -> modal_client::Result<BTreeMap<String, String>> {
    let mut functions = BTreeMap::new();
    for &name in names {
        match client.function(APP, name).await {
            Ok(function) => {
                let url = function.web_url().unwrap_or_default().trim_end_matches('/').to_owned();
                functions.insert(name.to_owned(), url);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(functions)
}

async fn record(client: &Client, tag: &str) -> modal_client::Result<Option<DeployRecord>> {
    let dict = match client.dict(DEPLOY_DICT).await {
        Ok(dict) => dict,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let text: Option<String> = dict.get(&DeployRecord::key(tag)).await?;
    // One that a newer version of this program wrote is as good as none.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Keeps what is known of a deployment.
pub(crate) async fn keep(client: &Client, record: &DeployRecord) -> anyhow::Result<()> {
    let dict = client.dict(DEPLOY_DICT).create_if_missing().await?;
    let text = serde_json::to_string(record)?;
    dict.put(&DeployRecord::key(&record.tag()), &text).await?;
    Ok(())
}

/// A time as people and programs read it: RFC 3339, whole seconds.
pub(crate) fn moment(at: Option<SystemTime>) -> Option<String> {
    let at = jiff::Timestamp::try_from(at?).ok()?;
    Some(at.round(jiff::Unit::Second).unwrap_or(at).to_string())
}

/// A client for the services themselves. A proxy of the environment is for the outside.
pub(crate) fn http(target: Target, timeout: Duration) -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls_config::client_config());
    let client = if target == Target::Local { client.no_proxy() } else { client };
    client.timeout(timeout).build()
}

/// The last cause of an error: what a person wants to know.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
