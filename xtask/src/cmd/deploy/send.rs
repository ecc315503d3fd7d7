//! The description as requests of Modal's API.

use std::path::Path;

use anyhow::Context as _;
use goat_services::app::{APP, FILES, LANGFUSE, Service, shim};
use modal_client::{
    Autoscaling, Client, DeployStrategy, FunctionSpec, Image, MiB, VolumeMount, Web,
};

use super::{DeployPlan, build_log::BuildLog};
use crate::context::Context;

/// Builds what is to be built and publishes the app, in the place of what was deployed before.
pub(super) async fn send(
    plan: &DeployPlan,
    client: &Client,
    context: &Context,
) -> anyhow::Result<()> {
    // Files are sent from here; it goes when they are there.
    let stage = tempfile::tempdir().context("can't make a temporary directory")?;
    let log = BuildLog::new(context.printer.clone());
    let mut deploy = client
        .deploy(APP)
        .version_tag(plan.record.tag())
        .strategy(strategy(plan))
        .on_build(log.listener());
    for service in &plan.services {
        let directory = stage.path().join(service.name);
        for file in &service.files {
            file.write_below(&directory)?;
        }
        deploy = deploy.function(function(service, &directory, client).await?);
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

async fn function(
    service: &Service,
    files: &Path,
    client: &Client,
) -> anyhow::Result<FunctionSpec> {
    let image = Image::from_registry(service.base.as_str())
        .dockerfile_commands(service.commands.iter().cloned())
        .add_local_dir(files, FILES);
    let (module, text) = shim(service);
    let mut spec = FunctionSpec::from_source(module, text, service.name, &image)
        .web(Web::server(service.port).startup_timeout(service.startup))
        .timeout(service.timeout)
        .startup_timeout(service.startup)
        .concurrent_inputs(service.concurrent)
        .autoscaling(Autoscaling::default().min(1).max(1));
    if let Some(mib) = service.memory_mib {
        spec = spec.memory(MiB(mib), None);
    }
    for secret in &service.secrets {
        spec = spec.secret(&client.secrets().get(secret).await?);
    }
    for (path, volume) in &service.volumes {
        let volume = client.volume(*volume).create_if_missing().await?;
        spec = spec.volume(*path, VolumeMount::new(&volume));
    }
    Ok(spec)
}
