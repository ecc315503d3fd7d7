//! The proxy that `deploy` deployed, as the model of a run.

use std::time::Duration;

use anyhow::Context as _;
use eval_types::RunId;
use goat_keys::{Claims, SigningKeys};
use goat_services::{EnvFile, app::LITELLM};
use jiff::Timestamp;
use sandbox_runner::{Secret, relay::Upstream};

use super::ModelArgs;
use crate::{
    backend,
    cmd::setup::env_path,
    context::Context,
    exit::UsageError,
    local_server::LocalServer,
    services,
    target::{Process, Surroundings as _, Target},
};

/// The variable with the keys that sign.
const SIGNING_KEY: &str = "GOAT_TASK_SIGNING_KEY";
/// How long the key lives that only looks whether the proxy is there.
const LOOK: Duration = Duration::from_secs(60);

/// The deployed proxy, which answers and has the model.
pub(super) struct Proxy {
    pub(super) upstream: Upstream,
    /// Whether recordings answer behind it.
    pub(super) replays: bool,
    pub(super) signing: SigningKeys,
}

/// The proxy of the target's environment, if one is deployed there.
pub(super) async fn find(args: &ModelArgs, context: &Context) -> anyhow::Result<Option<Proxy>> {
    let Some((url, replays)) = deployed(context).await? else { return Ok(None) };
    let Some(signing) = signing_keys(context)? else {
        let text = format!(
            "a proxy is deployed at {url}, but {SIGNING_KEY} is neither in the file of values nor in the \
             environment, so that no key for it can be made"
        );
        if context.choice.target == Target::Modal {
            return Err(UsageError(text).into());
        }
        context.printer.warn(&text);
        return Ok(None);
    };
    let upstream = Upstream::new(&url, Some(key_to_look(&signing, &args.model)?))?;
    let found = upstream.probe().await;
    let found = found.context(
        "the deployed proxy does not answer as it should: `cargo xtask deploy --wait` waits until it does",
    )?;
    found.require(&upstream, &args.model)?;
    Ok(Some(Proxy { upstream, replays, signing }))
}

/// Where it is, and whether recordings answer behind it. Nothing is started to find out.
async fn deployed(context: &Context) -> anyhow::Result<Option<(String, bool)>> {
    if context.choice.target == Target::Local && !LocalServer::of(context).has_ever_run() {
        return Ok(None);
    }
    let client = match backend::client(context).await {
        Ok((client, _)) => client,
        // Without a way to Modal, what is missing is an address of a model.
        Err(_) if context.choice.target == Target::Modal => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(current) = services::current(&client).await? else { return Ok(None) };
    let replays = current.record.as_ref().is_some_and(|record| record.replays);
    Ok(current.url(LITELLM).map(|url| (url.to_owned(), replays)))
}

/// The file of values first, as `setup` has it.
fn signing_keys(context: &Context) -> anyhow::Result<Option<SigningKeys>> {
    let file = env_path::existing(None, context)?.map(EnvFile::read).transpose()?;
    let text = match file.as_ref().and_then(|file| file.get(SIGNING_KEY)) {
        Some(text) => Some(text.expose().to_owned()),
        None => Process.variable(SIGNING_KEY),
    };
    Ok(text.map(|text| SigningKeys::parse(&text)).transpose()?)
}

fn key_to_look(signing: &SigningKeys, model: &str) -> anyhow::Result<Secret> {
    let now = Timestamp::now();
    let claims = Claims::for_trial(RunId::new(now), "look".parse()?, LOOK, now);
    let token = signing.issue(&claims.with_models([model]))?;
    Ok(Secret::new(token.expose()))
}
