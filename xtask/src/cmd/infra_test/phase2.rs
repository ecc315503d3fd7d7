//! Phase 2: setup, without doing any of it.

use std::future::ready;

use anyhow::{bail, ensure};
use goat_services::{Action, KeyPlan, KeyState, SecretPlan, SetupPlan};

use super::{Args, check::CheckId, report::Report};
use crate::{cmd::setup, context::Context};

pub(super) async fn run(args: &Args, context: &Context, report: &mut Report<'_>) {
    let plan = match setup::plan(args.services.sources.env_file.as_deref(), context).await {
        Ok(plan) => plan,
        Err(error) => {
            report.check(CheckId::SetupPlan, ready(Err(error))).await;
            for check in [CheckId::Environment, CheckId::Secrets, CheckId::Volumes] {
                report.needs(check, CheckId::SetupPlan);
            }
            return;
        }
    };
    let can_be_done = report.check(CheckId::SetupPlan, ready(problems(&plan))).await;
    let is_there =
        report.check(CheckId::Environment, ready(environment(&plan, &context.environment))).await;
    match (is_there, can_be_done) {
        (false, _) => report.needs(CheckId::Secrets, CheckId::Environment),
        (true, false) => report.needs(CheckId::Secrets, CheckId::SetupPlan),
        (true, true) => drop(report.check(CheckId::Secrets, ready(secrets(&plan))).await),
    }
    match is_there {
        true => drop(report.check(CheckId::Volumes, ready(volumes(&plan))).await),
        false => report.needs(CheckId::Volumes, CheckId::Environment),
    }
}

fn problems(plan: &SetupPlan) -> anyhow::Result<String> {
    let problems: Vec<_> = plan.problems.iter().map(ToString::to_string).collect();
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(if plan.is_done() { "nothing is left to do" } else { "it can be done" }.to_owned())
}

fn environment(plan: &SetupPlan, name: &str) -> anyhow::Result<String> {
    ensure!(plan.environment == Action::Exists, "there is no environment `{name}`");
    Ok(format!("environment `{name}`"))
}

fn secrets(plan: &SetupPlan) -> anyhow::Result<String> {
    let wrong: Vec<String> = plan.secrets.iter().filter_map(wrong).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let deployed = plan.secrets.iter().filter(|secret| secret.action != Action::LeaveOut);
    let names: Vec<_> = deployed.map(|secret| secret.name).collect();
    Ok(names.join(", "))
}

/// What is wrong with a secret, with the names of its variables and none of their values.
fn wrong(secret: &SecretPlan) -> Option<String> {
    let those = |state: KeyState| {
        let keys = secret.keys.iter().filter(move |key| key.state == state);
        keys.map(|key: &KeyPlan| key.name).collect::<Vec<_>>().join(", ")
    };
    let (name, new, differ) = (secret.name, those(KeyState::New), those(KeyState::Differs));
    match secret.action {
        Action::LeaveOut => None,
        Action::Make => Some(format!("secret {name} is missing")),
        _ if !new.is_empty() => Some(format!("secret {name} lacks {new}")),
        _ if !differ.is_empty() => {
            Some(format!("secret {name} has another value than here: {differ}"))
        }
        _ => None,
    }
}

fn volumes(plan: &SetupPlan) -> anyhow::Result<String> {
    let missing = plan.volumes.iter().filter(|volume| volume.action != Action::Exists);
    let missing: Vec<_> = missing.map(|volume| volume.name).collect();
    if !missing.is_empty() {
        bail!("missing: {}", missing.join(", "));
    }
    let names: Vec<_> = plan.volumes.iter().map(|volume| volume.name).collect();
    Ok(names.join(", "))
}
