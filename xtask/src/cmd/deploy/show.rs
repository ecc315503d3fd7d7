//! What will change and what was deployed, for people and for programs.

use std::collections::BTreeMap;

use goat_services::app::{APP, Change};
use serde_json::{Value, json};

use super::{DeployPlan, traces::Destination};
use crate::context::Context;

/// Says what becomes of each function, and of traces.
pub(super) fn plan(plan: &DeployPlan, destination: &Destination, context: &Context) {
    for (name, change) in &plan.changes {
        context.printer.note(&format!("{name}: {}", words(change)));
    }
    let traced_to = |plan: &DeployPlan| plan.current.as_ref()?.record.as_ref()?.traces_to.clone();
    match (destination.existing(), traced_to(plan)) {
        (Some(existing), _) => {
            let Destination { server, set, .. } = destination;
            let (url, litellm) = (&existing.url, set.litellm);
            context.printer.note(&format!(
                "traces go to Langfuse {server} at {url}, by LiteLLM {litellm} (set {})",
                set.name
            ));
        }
        (None, Some(url)) if plan.record.traces_to.is_none() => context.printer.warn(&format!(
            "traces went to {url}; from now on they go to the function langfuse (--langfuse-url keeps them there)"
        )),
        (None, _) => {}
    }
    for sentence in plan.services.iter().flat_map(|service| &service.stand_ins) {
        context.printer.note(&format!("stand-in: {sentence}"));
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::New => "new".to_owned(),
        Change::Unchanged => "unchanged".to_owned(),
        Change::Kept => "stays as it is".to_owned(),
        Change::Changed(parts) => format!("changed: {}", parts.join(", ")),
    }
}

/// The end of a dry run.
pub(super) fn dry_run(plan: &DeployPlan, context: &Context) -> serde_json::Result<()> {
    context.printer.json(&as_json(plan, None, &BTreeMap::new(), None))?;
    context.printer.note("nothing was deployed (--dry-run)");
    Ok(())
}

/// Where everything is now, and how to undo it.
pub(super) fn done(
    plan: &DeployPlan,
    version: Option<u32>,
    urls: &BTreeMap<String, String>,
    healthy: Option<BTreeMap<String, f64>>,
    context: &Context,
) -> serde_json::Result<()> {
    context.printer.json(&as_json(plan, version, urls, healthy.as_ref()))?;
    for (name, url) in urls {
        context.printer.text(&format!("{name:<9} {url}"));
    }
    let version = version.map(|it| it.to_string()).unwrap_or_default();
    if plan.is_done() {
        context.printer.note(&format!("version {version} of {APP} is deployed like this already"));
    } else {
        context
            .printer
            .note(&format!("version {version} of {APP} is deployed; undo: {}", undo(plan)));
    }
    if healthy.is_none() {
        context.printer.note("not waited for: containers may still be starting (--wait)");
    }
    Ok(())
}

/// The command that takes the deployment back.
fn undo(plan: &DeployPlan) -> String {
    match &plan.current {
        Some(current) => format!("cargo xtask rollback {}", current.version),
        None => "cargo xtask stop".to_owned(),
    }
}

fn as_json(
    plan: &DeployPlan,
    version: Option<u32>,
    urls: &BTreeMap<String, String>,
    healthy: Option<&BTreeMap<String, f64>>,
) -> Value {
    let function = |(name, change): (&String, &Change)| {
        json!({
            "name": name,
            "change": change,
            "url": urls.get(name),
            "healthy_after_s": healthy.and_then(|healthy| healthy.get(name)),
        })
    };
    let stand_ins: Vec<_> = plan.services.iter().flat_map(|service| &service.stand_ins).collect();
    json!({
        "app": APP,
        "version": version,
        "before": plan.current.as_ref().map(|current| current.version),
        "tag": plan.record.tag(),
        "unchanged": plan.is_done(),
        "functions": plan.changes.iter().map(function).collect::<Vec<_>>(),
        "stand_ins": stand_ins,
        "traces_to": plan.record.traces_to,
        "undo": (!plan.is_done()).then(|| undo(plan)),
    })
}
