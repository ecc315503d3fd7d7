//! The description as requests of Modal's API.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use goat_services::app::{APP, FILES, Kind, LANGFUSE, Service, shim};
use modal_client::{
    Autoscaling, Client, Commit, DeployStrategy, FunctionSpec, Image, MiB, Secret, VolumeMount, Web,
};

use super::{DeployPlan, build_log::BuildLog};
use crate::printer::Printer;

/// Builds what is to be built and publishes the app, in the place of what was deployed before.
pub(super) async fn send(
    plan: &DeployPlan,
    commit: Option<Commit>,
    client: &Client,
    printer: &Printer,
) -> anyhow::Result<()> {
    // Files are sent from here; it goes when they are there.
    let stage = tempfile::tempdir().context("can't make a temporary directory")?;
    let log = BuildLog::new(printer.clone());
    let mut deploy = client
        .deploy(APP)
        .version_tag(plan.record.tag())
        .strategy(strategy(plan))
        .on_build(log.listener());
    if let Some(commit) = commit {
        deploy = deploy.commit(commit);
    }
    let secrets = secrets(plan, client).await?;
    for service in &plan.services {
        let directory = stage.path().join(service.name);
        for file in &service.files {
            file.write_below(&directory)?;
        }
        deploy = deploy.function(function(service, &directory, &secrets, client).await?);
        for (variable, of) in &service.addresses {
            deploy = deploy.address_variable(service.name, *variable, *of);
        }
    }
    for kept in &plan.keeps {
        deploy = deploy.keep(*kept);
    }
    deploy.await?;
    Ok(())
}

/// The proxy keeps nothing that two of it could spoil; a database has one writer.
fn strategy(plan: &DeployPlan) -> DeployStrategy {
    match plan.services.iter().any(|service| service.name == LANGFUSE) {
        true => DeployStrategy::Recreate,
        false => DeployStrategy::Rolling,
    }
}

/// The secrets that functions name, each looked up once.
async fn secrets(
    plan: &DeployPlan,
    client: &Client,
) -> modal_client::Result<BTreeMap<&'static str, Secret>> {
    let mut found = BTreeMap::new();
    for &name in plan.services.iter().flat_map(|service| &service.secrets) {
        if !found.contains_key(name) {
            found.insert(name, client.secrets().get(name).await?);
        }
    }
    Ok(found)
}

async fn function(
    service: &Service,
    files: &Path,
    secrets: &BTreeMap<&'static str, Secret>,
    client: &Client,
) -> anyhow::Result<FunctionSpec> {
    let image = Image::from_registry(service.base.as_str())
        .dockerfile_commands(service.commands.iter().cloned())
        .add_local_dir(files, FILES);
    let (module, text) = shim(service);
    let mut spec = FunctionSpec::from_source(module, text, service.name, &image);
    spec = spec.timeout(service.timeout);
    if let Kind::Server(server) = &service.kind {
        spec = spec
            .web(Web::server(server.port).startup_timeout(server.startup))
            .startup_timeout(server.startup)
            .concurrent_inputs(server.concurrent)
            .autoscaling(Autoscaling::default().min(1).max(1));
    }
    if let Some(mib) = service.memory_mib {
        spec = spec.memory(MiB(mib), None);
    }
    for secret in service.secrets.iter().filter_map(|name| secrets.get(name)) {
        spec = spec.secret(secret);
    }
    if !service.values.is_empty() {
        let values = service.values.iter().map(|(name, value)| (name.clone(), value.expose()));
        spec = spec.secret(&Secret::from_map(values));
    }
    for (path, volume) in &service.volumes {
        let volume = client.volume(*volume).create_if_missing().await?;
        spec = spec.volume(*path, VolumeMount::new(&volume));
    }
    Ok(spec)
}
