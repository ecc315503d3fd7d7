//! Carries a plan out.

use std::collections::BTreeSet;

use anyhow::anyhow;
use goat_services::{Action, EnvFile, SecretPlan, SetupPlan, catalog::SETUP_DICT};
use modal_client::{Client, IfExists};

use super::deployed::{Found, SALT};
use crate::{backend, context::Context, exit::Exit, signals::Interruption};

/// Names of things that are to be made or changed: all of the plan, or those that were agreed to.
pub(super) fn choose(
    plan: &SetupPlan,
    asks: bool,
    context: &Context,
) -> anyhow::Result<BTreeSet<String>> {
    let environment = [(context.environment.as_str(), "environment", plan.environment)];
    let secrets = plan.secrets.iter().map(|it| (it.name, "secret", it.action));
    let volumes = plan.volumes.iter().map(|it| (it.name, "volume", it.action));
    let mut wanted = BTreeSet::new();
    for (name, kind, action) in environment.into_iter().chain(secrets).chain(volumes) {
        let verb = match action {
            Action::Make => "make",
            Action::Change => "change",
            _ => continue,
        };
        if !asks || context.printer.confirm(&format!("{verb} {kind} {name}?"))? {
            wanted.insert(name.to_owned());
        } else if kind == "environment" {
            context.printer.note("without its environment nothing can be made");
            return Ok(BTreeSet::new());
        }
    }
    Ok(wanted)
}

/// First what must not be lost: new values go into the file before anybody else has them.
pub(super) async fn carry_out(
    plan: &SetupPlan,
    wanted: &BTreeSet<String>,
    found: &Found,
    file: &mut EnvFile,
    interruption: &Interruption,
    context: &Context,
) -> anyhow::Result<Exit> {
    keep(plan, wanted, file, context)?;
    let made = make(plan, wanted, found, interruption, context).await;
    made.map_err(|error| match error.downcast_ref::<modal_client::Error>() {
        Some(cause) if cause.is_transient() => {
            tracing::info!(error = format!("{error:#}"), "setting up broke off");
            anyhow!("{cause}; run the command again: it goes on from here")
        }
        _ => error,
    })
}

async fn make(
    plan: &SetupPlan,
    wanted: &BTreeSet<String>,
    found: &Found,
    interruption: &Interruption,
    context: &Context,
) -> anyhow::Result<Exit> {
    let client = match &found.client {
        Some(client) => client.clone(),
        None => backend::client(context).await?.0,
    };
    let said = |text: &str| context.printer.note(text);
    if plan.environment == Action::Make {
        client.environments().get_or_create(&context.environment).await?;
        said(&format!("environment {}: made", context.environment));
    }
    for secret in plan.secrets.iter().filter(|secret| wanted.contains(secret.name)) {
        if interruption.is_asked() {
            return Ok(broken_off(context));
        }
        hand_over(&client, secret, found).await?;
        let done = if secret.action == Action::Make { "made" } else { "changed" };
        said(&format!("secret {}: {done}", secret.name));
    }
    for volume in plan.volumes.iter().filter(|volume| wanted.contains(volume.name)) {
        if interruption.is_asked() {
            return Ok(broken_off(context));
        }
        client.volume(volume.name).create_if_missing().await?;
        said(&format!("volume {}: made", volume.name));
    }
    Ok(Exit::Ok)
}

fn broken_off(context: &Context) -> Exit {
    context.printer.note("cancelled: run the command again for the rest");
    Exit::Cancelled
}

fn keep(
    plan: &SetupPlan,
    wanted: &BTreeSet<String>,
    file: &mut EnvFile,
    context: &Context,
) -> anyhow::Result<()> {
    let secret_of = |key: &str| goat_services::catalog::key(key).map(|(secret, _)| secret.name);
    let mut kept = 0;
    for (name, value) in plan.for_file() {
        if secret_of(name).is_some_and(|secret| wanted.contains(secret)) {
            file.set(name, value)?;
            kept += 1;
        }
    }
    if kept > 0 {
        file.save()?;
        let path = file.path().display();
        context.printer.note(&format!("{kept} new values are kept in {path}, for your eyes alone"));
    }
    Ok(())
}

/// What is killed in between must not look like somebody else's doing: a new secret is marked first, and given the same
/// values by the next setup; a changed one is marked last, and differs until it is.
async fn hand_over(client: &Client, secret: &SecretPlan, found: &Found) -> anyhow::Result<()> {
    if secret.action != Action::Make {
        give(client, secret).await?;
        return remember(client, secret, found).await;
    }
    remember(client, secret, found).await?;
    let given = give(client, secret).await;
    if given.is_err() {
        forget(client, secret).await;
    }
    given
}

async fn give(client: &Client, secret: &SecretPlan) -> anyhow::Result<()> {
    let given = secret.given();
    let given = given.map(|(name, value)| (name, value.clone()));
    match secret.action {
        Action::Make => {
            // Another setup may have made it a moment ago: then its values stay.
            client.secrets().create(secret.name, given, IfExists::Fail).await?;
        }
        _ => {
            let id = client.secrets().info(secret.name).await?.id;
            let given = given.map(|(name, value)| (name, Some(value)));
            client.secrets().update(&id, given).await?;
        }
    }
    Ok(())
}

/// Takes marks of what was not given away again. A server that is gone keeps them: the next setup gives the same values.
async fn forget(client: &Client, secret: &SecretPlan) {
    let Ok(dict) = client.dict(SETUP_DICT).await else { return };
    for (name, _) in secret.given() {
        let _ = dict.pop::<String>(&format!("{}/{name}", secret.name)).await;
    }
}

/// Stores the marks of what was given, so that the next setup knows it again.
async fn remember(client: &Client, secret: &SecretPlan, found: &Found) -> anyhow::Result<()> {
    let dict = client.dict(SETUP_DICT).create_if_missing().await?;
    if !found.has_salt {
        dict.put_if_absent(SALT, &found.fingerprints.salt().expose()).await?;
    }
    let marks = secret.given().map(|(name, value)| {
        let mark = found.fingerprints.of(name, value);
        (format!("{}/{name}", secret.name), mark.as_str().to_owned())
    });
    dict.update(marks.collect::<Vec<_>>()).await?;
    Ok(())
}
