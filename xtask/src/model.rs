//! Which model answers the agents, decided before anything is started.

mod keys;
mod proxy;

use std::sync::Arc;

use anyhow::bail;
use eval_types::ModelSource;
use goat_keys::SigningKeys;
use llm_replay::{ReplayConfig, ReplayServer};
use sandbox_runner::{
    ModelAccess, Plan, Secret, Traces,
    relay::{Direct, Registration, Relay, Relayed, Upstream},
};

use self::{keys::TaskKeys, proxy::Proxy};
use crate::{
    context::Context,
    exit::UsageError,
    local_server::LocalServer,
    target::{Process, Surroundings as _, Target},
};

/// What commands ask of a model.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Model that the agents ask for
    #[arg(long, default_value = "gpt-5-nano")]
    pub(crate) model: String,
    /// Address of an OpenAI-compatible server, with or without /v1; its key is OPENAI_API_KEY.
    /// Without it: OPENAI_BASE_URL, else the deployed proxy, else (target local) recorded
    /// conversations answer
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// On Modal: hand OPENAI_API_KEY itself to the sandboxes, where the agents' commands could
    /// get hold of it. Locally a relay keeps it out of them
    #[arg(long)]
    pub(crate) allow_key_in_sandbox: bool,
}

/// The model of a run.
pub(crate) struct Model {
    upstream: Upstream,
    /// Whether a model, recordings or a stand-in answers.
    pub(crate) source: ModelSource,
    /// What answers, for people.
    pub(crate) answered_by: String,
    /// What it takes for traces.
    pub(crate) traces: Traces,
    /// Kept alive with the run.
    replay: Option<ReplayServer>,
    /// Signs the keys of trials, where the deployed proxy answers.
    signing: Option<SigningKeys>,
}

/// Recordings for the replay server, below the workspace.
pub(crate) const RECORDINGS: &str = "fixtures/llm";
/// How a replay server signs its models.
const REPLAY: &str = "llm-replay";
/// Variable with the model's key.
const KEY: &str = "OPENAI_API_KEY";

impl Model {
    /// Decides, and asks the model's server whether it is there, takes the key and has the model.
    pub(crate) async fn choose(args: &ModelArgs, context: &Context) -> anyhow::Result<Self> {
        let key = Process.variable(KEY);
        let url = args.api_url.clone().or_else(|| Process.variable("OPENAI_BASE_URL"));
        let Some(url) = url else {
            return match proxy::find(args, context).await? {
                Some(proxy) => Self::behind(proxy),
                None => Self::without_address(key.is_some(), context).await,
            };
        };
        let upstream = Upstream::new(&url, key.map(Secret::new))?;
        if context.choice.target == Target::Modal {
            refuse_on_modal(&upstream, args)?;
        }
        let found = upstream.probe().await?;
        let replayed = !found.owners.is_empty() && found.owners.iter().all(|owner| owner == REPLAY);
        let source = if replayed { ModelSource::Replay } else { ModelSource::Live };
        if source == ModelSource::Live {
            found.require(&upstream, &args.model)?;
        }
        let answered_by = upstream.base_url().to_owned();
        // A replay server does not mind, so that the form which LiteLLM takes is the one that is tried most.
        let takes_metadata = found.is_litellm || replayed;
        let traces = if takes_metadata { Traces::LiteLlm } else { Traces::Header };
        Ok(Self { upstream, source, answered_by, traces, replay: None, signing: None })
    }

    /// The proxy that was deployed: every trial gets a key of its own.
    fn behind(proxy: Proxy) -> anyhow::Result<Self> {
        let Proxy { upstream, replays, signing } = proxy;
        let source = if replays { ModelSource::Replay } else { ModelSource::Live };
        let answered_by = upstream.base_url().to_owned();
        let (traces, signing) = (Traces::LiteLlm, Some(signing));
        Ok(Self { upstream, source, answered_by, traces, replay: None, signing })
    }

    /// Recordings, on this machine; on Modal there is nothing that could answer.
    async fn without_address(has_key: bool, context: &Context) -> anyhow::Result<Self> {
        if context.choice.target == Target::Modal {
            let text = "no model: give --api-url URL (or OPENAI_BASE_URL), with OPENAI_API_KEY";
            bail!(UsageError(text.to_owned()));
        }
        if has_key {
            context.printer.warn(
                "OPENAI_API_KEY is set, but no address: recordings answer. For a real model add \
                 --api-url https://api.openai.com/v1",
            );
        }
        let recordings = context.workspace.path(RECORDINGS);
        let key = Secret::random("sk-replay-")?;
        let mut config = ReplayConfig::new(vec![recordings]);
        config.key = Some(key.expose().to_owned());
        let replay = ReplayServer::start(config).await?;
        let upstream = Upstream::new(&replay.url(), Some(key))?;
        let answered_by = format!("recordings in {RECORDINGS}");
        let source = ModelSource::Replay;
        let traces = Traces::LiteLlm;
        let replay = Some(replay);
        Ok(Self { upstream, source, answered_by, traces, replay, signing: None })
    }

    /// Says what answers.
    pub(crate) fn announce(&self, context: &Context) {
        let by = &self.answered_by;
        if self.signing.is_some() {
            let by_what = match self.source {
                ModelSource::Replay => ", behind which recordings answer (replay)",
                _ => "",
            };
            context.printer.note(&format!("model: the deployed proxy, {by}{by_what}"));
            return;
        }
        context.printer.note(&match (self.source, &self.replay) {
            (ModelSource::Live, _) => format!("model: {by}"),
            (_, Some(_)) => format!("model: none is configured, {by} answer instead (replay)"),
            (_, None) => format!("model: recordings, replayed by {by}"),
        });
    }

    /// How sandboxes reach it: through a relay where there is a local server, else by its address.
    pub(crate) async fn access(
        &mut self,
        local: Option<LocalServer>,
        plan: &Plan,
    ) -> anyhow::Result<Arc<dyn ModelAccess>> {
        let upstream = self.upstream.clone();
        let keys = self.signing.take().map(|signing| TaskKeys::new(signing, plan).shared());
        let Some(server) = local else { return Ok(Arc::new(Direct { upstream, keys })) };
        let relay = Relay::start(upstream).await?;
        let registration = Some(Registration::new(server, relay.address()).await?);
        Ok(Arc::new(Relayed { relay, registration, keys }))
    }
}

fn refuse_on_modal(upstream: &Upstream, args: &ModelArgs) -> Result<(), UsageError> {
    if upstream.is_local() {
        let url = upstream.base_url();
        return Err(UsageError(format!(
            "{url} is on this machine: Modal's sandboxes can't reach it"
        )));
    }
    if upstream.key().is_some() && !args.allow_key_in_sandbox {
        let text = "on Modal, without a deployed proxy, OPENAI_API_KEY itself would lie in every \
                    sandbox, in reach of what the agent runs: allow it with --allow-key-in-sandbox, \
                    and use a key that you can revoke";
        return Err(UsageError(text.to_owned()));
    }
    Ok(())
}
