//! `deploy`: the services, as an app of the target.

mod build_log;
mod commit;
mod describe;
mod early;
mod send;
mod show;
mod traces;
mod wait;
#[cfg(test)]
mod wire;

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use goat_services::app::{
    APP, Change, DeployRecord, Digests, LANGFUSE, LANGFUSE_QUERY, LITELLM, Service,
};
use modal_client::Client;

use self::{early::Progress, traces::Destination};
use crate::{
    cmd::{
        litellm::{environment::Sources, versions::Versions},
        setup::deployed,
    },
    context::Context,
    exit::{Exit, UsageError},
    services::{self, Current},
    signals::Signals,
    target::Target,
};

/// Deploy the proxy that routes every model call (litellm) and the store of its traces (langfuse)
///
/// What is deployed like this already stays as it is. Setup comes first: it makes the secrets. On this machine the
/// same app runs on the embedded server: LiteLLM from PyPI, PostgreSQL from Debian, langfuse-local in the place of
/// Langfuse's image, and, where no provider of models is set up, recorded conversations in the place of models.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask deploy --target local --wait     all of it on this machine, until it answers
  cargo xtask deploy --dry-run                 what would change
  cargo xtask deploy --only litellm            the other function stays as it is
  cargo xtask deploy --langfuse-url https://langfuse.example
                                               traces go to a Langfuse that is there already

A function that is unchanged goes on as it is. Where langfuse changes, all containers of the version before are
ended first, so that its database never has two writers: the services do not answer for half a minute.

With --langfuse-url the proxy takes the version set of that server, LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY of .env or
the environment go along, and the function langfuse is not sent: one that is deployed stays. Say it again with each
deployment: without it traces go to the function langfuse.

Ctrl-C ends it at any time and says what was done; the same command goes on from there.

Exit codes: 0 deployed (and healthy, with --wait), 2 something is not set up, 3 it failed or is not healthy in time,
130 cancelled")]
pub(crate) struct Args {
    /// What to deploy
    #[arg(value_enum, default_value_t = What::Services)]
    what: What,
    /// This function alone
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Return when everything answers, or fail
    #[arg(long)]
    wait: bool,
    /// Seconds that --wait waits
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
    /// Say what would be deployed and deploy nothing
    #[arg(long)]
    dry_run: bool,
    /// Deploy on Modal without asking whether it may cost money
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    versions: Versions,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// The app goat-services
    Services,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Litellm,
    Langfuse,
}

impl Only {
    /// What asks Langfuse's database goes with it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Litellm => &[LITELLM],
            Self::Langfuse => &[LANGFUSE, LANGFUSE_QUERY],
        }
    }
}

/// What will be deployed, and what that changes.
struct DeployPlan {
    /// Those that are sent.
    services: Vec<Service>,
    /// Those that stay as they are, containers and all.
    keeps: Vec<&'static str>,
    /// By function, those that stay included.
    changes: BTreeMap<String, Change>,
    /// What will be deployed then.
    record: DeployRecord,
    /// What is deployed now.
    current: Option<Current>,
}

impl DeployPlan {
    fn is_done(&self) -> bool {
        self.changes.values().all(|change| matches!(change, Change::Unchanged | Change::Kept))
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let What::Services = args.what;
    context.announce_target();
    let progress = Progress::default();
    let mut signals = Signals::new();
    tokio::select! {
        biased;
        () = signals.next() => Ok(early::interrupted(&progress, &mut signals, context).await),
        gone = early::server_gone(&progress) => Err(gone),
        done = carry_out(&args, &progress, context) => {
            if let Err(error) = &done {
                early::failed(error, &progress, context).await;
            }
            done
        }
    }
}

async fn carry_out(args: &Args, progress: &Progress, context: &Context) -> anyhow::Result<Exit> {
    let destination = traces::choose(args, context).await?;
    let found = deployed::look(context, args.dry_run).await?;
    progress.connected(found.client.as_ref(), server(&found, context).await?);
    let described = describe::describe(&found, &destination, &args.sources, context).await?;
    let current = match &found.client {
        Some(client) => services::current(client).await?,
        None => None,
    };
    let plan = plan(args, described, &destination, current)?;
    show::plan(&plan, &destination, context);
    if args.dry_run {
        show::dry_run(&plan, context)?;
        return Ok(Exit::Ok);
    }
    let Some(client) = found.client else { bail!("the target can't be reached") };
    let before = match args.wait {
        true => wait::lives(&replaced(&plan, &client).await?, context).await?,
        false => wait::Lives::new(),
    };
    let version = match plan.is_done() {
        true => services::current(&client).await?.map(|current| current.version),
        false => {
            confirm(args, context).await?;
            progress.sends(plan.current.as_ref().map(|current| current.version));
            Some(deploy(&plan, &client, context).await?)
        }
    };
    let urls = services::urls(&client).await?;
    let is_healthy = match args.wait {
        true => {
            progress.waits();
            Some(wait::until_healthy(&urls, &before, limit(args), context).await?)
        }
        false => None,
    };
    show::done(&plan, version, &urls, is_healthy, context)?;
    Ok(Exit::Ok)
}

/// The process of the local server, where that is the target.
async fn server(found: &deployed::Found, context: &Context) -> anyhow::Result<Option<i32>> {
    let connection = crate::backend::Connection::new(context, &context.environment);
    match (&found.client, connection.local()) {
        (Some(_), Some(local)) => local.pid().await,
        _ => Ok(None),
    }
}

/// The addresses of what is deployed and will be replaced.
async fn replaced(
    plan: &DeployPlan,
    client: &Client,
) -> modal_client::Result<BTreeMap<String, String>> {
    let mut urls = services::urls(client).await?;
    urls.retain(|name, _| plan.services.iter().any(|service| service.name == name));
    Ok(urls)
}

fn limit(args: &Args) -> Duration {
    Duration::from_secs(args.timeout.into())
}

fn plan(
    args: &Args,
    described: describe::Described,
    destination: &Destination,
    current: Option<Current>,
) -> anyhow::Result<DeployPlan> {
    let known = current.as_ref().and_then(|current| current.record.clone());
    let mut record = known.clone().unwrap_or_default();
    let (mut changes, mut chosen) = (BTreeMap::new(), Vec::new());
    let mut keeps = Vec::new();
    for service in described.services {
        let name = service.name;
        if args.only.is_some_and(|only| !only.names().contains(&name)) {
            let is_deployed = current.as_ref().is_some_and(|it| it.has(name));
            if is_deployed {
                keeps.push(name);
                changes.insert(name.to_owned(), Change::Kept);
            } else if name == LANGFUSE {
                let text =
                    "litellm hands traces to langfuse, which is not deployed: leave out --only";
                bail!(UsageError(text.to_owned()));
            }
            continue;
        }
        let digests = Digests::of(&service, &described.marks)?;
        let change = known.as_ref().map_or(Change::New, |known| known.change(name, &digests));
        record.set(&service, digests);
        match change {
            Change::Unchanged => keeps.push(name),
            _ => chosen.push(service),
        }
        changes.insert(name.to_owned(), change);
    }
    if !matches!(changes.get(LITELLM), None | Some(Change::Kept)) {
        record.replays = described.replays;
        record.traces_to = destination.existing().map(|existing| existing.url.clone());
        record.set = Some(destination.set.name.clone());
    }
    // Not sent where traces go elsewhere: what is deployed of it goes on, with the traces that it has.
    for name in [LANGFUSE, LANGFUSE_QUERY] {
        if !changes.contains_key(name) && current.as_ref().is_some_and(|it| it.has(name)) {
            keeps.push(name);
            changes.insert(name.to_owned(), Change::Kept);
        }
    }
    Ok(DeployPlan { services: chosen, keeps, changes, record, current })
}

/// Containers on Modal cost money: somebody must want them.
async fn confirm(args: &Args, context: &Context) -> anyhow::Result<()> {
    if context.choice.target != Target::Modal || args.yes {
        return Ok(());
    }
    let question = "This keeps two containers running on Modal, which costs money. Go on?";
    let printer = context.printer.clone();
    // On a thread of its own: Ctrl-C is heard while it asks.
    if !tokio::task::spawn_blocking(move || printer.confirm(question)).await?? {
        let text = "not deployed: containers on Modal cost money; confirm with --yes";
        bail!(UsageError(text.to_owned()));
    }
    Ok(())
}

/// Deploys, and answers the version.
async fn deploy(plan: &DeployPlan, client: &Client, context: &Context) -> anyhow::Result<u32> {
    if let Some(local) = crate::backend::Connection::new(context, &context.environment).local() {
        describe::substitute(plan, local).await?;
    }
    // Before the version is there: a version without its record would look like somebody else's.
    services::keep(client, &plan.record).await?;
    let commit = commit::of(&context.workspace.path("")).await;
    send::send(plan, commit, client, &context.printer).await?;
    match services::current(client).await? {
        Some(current) => Ok(current.version),
        None => bail!("app {APP} was deployed and is not there"),
    }
}
