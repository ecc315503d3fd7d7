//! The services for this target, as setup has left it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use goat_services::{
    Deployed,
    app::{
        Contents, Digests, LANGFUSE_IMAGE, Langfuse, Litellm, Service, Traces, Upstreams, langfuse,
        langfuse_query, litellm, stand_in_recipe,
    },
    catalog::{PROVIDERS, PROVIDERS_SECRET, SECRETS},
};
use sandbox_runner::agent::Arch;

use super::{DeployPlan, traces::Destination};
use crate::{
    agent,
    cmd::{litellm::environment::Sources, setup::deployed::Found},
    context::Context,
    exit::UsageError,
    local_server::{LocalServer, Substitution},
    model::RECORDINGS,
    target::Target,
};

/// All functions, with what tells whether they changed.
pub(super) struct Described {
    pub(super) services: Vec<Service>,
    /// Marks of the values of secrets, by `secret/VARIABLE`.
    pub(super) marks: BTreeMap<String, String>,
    /// Whether recordings answer in the place of models.
    pub(super) replays: bool,
}

pub(super) async fn describe(
    found: &Found,
    destination: &Destination,
    sources: &Sources,
    context: &Context,
) -> anyhow::Result<Described> {
    let deployed = &found.deployed;
    let providers = providers(deployed);
    let is_local = context.choice.target == Target::Local;
    check(deployed, &providers, is_local)?;
    let replays = providers.is_empty();
    let has_own = matches!(destination.traces, Traces::Own);
    let stands_in = is_local && has_own;
    let programs = programs(context, is_local, stands_in, replays).await?;
    let catalogue = sources.catalogue()?;
    let upstreams = match &programs.replay {
        Some(program) => {
            Upstreams::Replay { program: program.clone(), recordings: recordings(context)? }
        }
        None => Upstreams::Providers(providers),
    };
    let (set, traces) = (destination.set, destination.traces.clone());
    let wanted = Litellm { set, catalogue: &catalogue, upstreams, traces };
    let mut proxy = litellm(&wanted, &programs.supervisor);
    if is_local {
        proxy.values.extend(destination.opened_port());
    }
    let mut marks = marks(deployed);
    for (name, value) in &proxy.values {
        let mark = found.fingerprints.of(name, value).as_str().to_owned();
        marks.insert(Digests::inline(name), mark);
    }
    let mut services = vec![proxy];
    if has_own {
        let server = match &programs.langfuse {
            Some(program) => Langfuse::StandIn(program.clone()),
            None => Langfuse::Official,
        };
        services.push(langfuse(&server, &programs.supervisor));
        services.push(langfuse_query(&programs.supervisor));
    }
    Ok(Described { services, marks, replays })
}

/// The variables of complete providers, as far as the secret has them.
fn providers(deployed: &Deployed) -> Vec<String> {
    let Some(secret) = deployed.secrets.get(PROVIDERS_SECRET) else { return Vec::new() };
    let complete = PROVIDERS.iter().map(|provider| provider.keys);
    let complete = complete.filter(|keys| keys.iter().all(|key| secret.keys.contains(*key)));
    complete.flatten().map(|key| (*key).to_owned()).collect()
}

/// What containers could not start without is told before anything is built.
fn check(deployed: &Deployed, providers: &[String], is_local: bool) -> Result<(), UsageError> {
    for spec in SECRETS.iter().filter(|spec| !spec.optional) {
        let here = deployed.secrets.get(spec.name);
        let lacks = spec.keys.iter().find(|key| here.is_none_or(|it| !it.keys.contains(key.name)));
        if let Some(key) = lacks {
            let (secret, key) = (spec.name, key.name);
            let text = match here {
                None => format!("secret {secret} is missing: run `cargo xtask setup` first"),
                Some(_) => format!("secret {secret} lacks {key}: run `cargo xtask setup`"),
            };
            return Err(UsageError(text));
        }
    }
    if providers.is_empty() && !is_local {
        let text = "no provider of models is set up: `cargo xtask setup` says what each one needs";
        return Err(UsageError(text.to_owned()));
    }
    Ok(())
}

fn marks(deployed: &Deployed) -> BTreeMap<String, String> {
    let of = |(secret, known): (&String, &goat_services::DeployedSecret)| {
        let mark = |(key, mark): (&String, &goat_services::Fingerprint)| {
            (format!("{secret}/{key}"), mark.as_str().to_owned())
        };
        known.fingerprints.iter().map(mark).collect::<Vec<_>>()
    };
    deployed.secrets.iter().flat_map(of).collect()
}

/// Programs for the containers; those that stand in for something only where it is needed.
struct Programs {
    supervisor: Contents,
    langfuse: Option<Contents>,
    replay: Option<Contents>,
}

async fn programs(
    context: &Context,
    is_local: bool,
    stands_in: bool,
    replays: bool,
) -> anyhow::Result<Programs> {
    let arch = if is_local { Arch::host().unwrap_or(Arch::Amd64) } else { Arch::Amd64 };
    // Always the same ones, needed or not: cargo unites features over what it builds together, and the supervisor's
    // bytes, which tell whether it changed, would differ.
    let names = match is_local {
        true => vec!["modal-supervisor", "langfuse-local", "llm-replay"],
        false => vec!["modal-supervisor"],
    };
    let (workspace, printer) = (context.workspace.clone(), context.printer.clone());
    let building = move || agent::build_services(&workspace, arch, &names, &printer);
    let built = tokio::task::spawn_blocking(building).await??;
    let mut built = built.into_iter().map(Contents::Local);
    let supervisor = built.next().context("the supervisor was not built")?;
    let langfuse = built.next().filter(|_| stands_in);
    let replay = built.next().filter(|_| replays);
    Ok(Programs { supervisor, langfuse, replay })
}

/// Every recording, by its path below their directory.
fn recordings(context: &Context) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let root = context.workspace.path(RECORDINGS);
    let (mut found, mut directories) = (Vec::new(), vec![root.clone()]);
    while let Some(directory) = directories.pop() {
        let failed = || format!("can't read the recordings in `{}`", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let below = path.strip_prefix(&root).unwrap_or(&path);
                found.push((below.to_string_lossy().into_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Has this machine's server build something else for Langfuse's image, which it can't pull.
pub(super) async fn substitute(plan: &DeployPlan, local: &LocalServer) -> anyhow::Result<()> {
    if plan.services.iter().any(|service| service.base == LANGFUSE_IMAGE) {
        let (dockerfile_commands, reason) = stand_in_recipe();
        let matches = LANGFUSE_IMAGE.to_owned();
        local.substitute(Substitution { matches, dockerfile_commands, reason }).await?;
    }
    Ok(())
}
