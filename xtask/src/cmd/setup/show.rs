//! The plan, for people and for programs.

use std::path::Path;

use goat_services::{Action, KeyPlan, KeyState, SecretPlan, SetupPlan};
use serde_json::{Value, json};

use crate::context::Context;

/// Prints what becomes of each thing and why.
pub(super) fn plan(plan: &SetupPlan, file: &Path, context: &Context) -> anyhow::Result<()> {
    let environment = &context.environment;
    context.printer.json(&as_json(plan, environment, file))?;
    context.printer.text(&text(plan, environment, context.printer.is_verbose()));
    Ok(())
}

/// Whether all is there and nothing differs from what the file says.
pub(super) fn is_as_wanted(plan: &SetupPlan) -> bool {
    let differs =
        |secret: &SecretPlan| secret.keys.iter().any(|key| key.state == KeyState::Differs);
    plan.is_done() && !plan.secrets.iter().any(differs)
}

fn text(plan: &SetupPlan, environment: &str, all: bool) -> String {
    let mut lines = vec![format!("environment {environment}: {}", words(plan.environment))];
    for secret in &plan.secrets {
        lines.push(format!("secret {}: {}", secret.name, secret_words(secret)));
        let is_shown = |key: &&KeyPlan| {
            let is_quiet = matches!(key.state, KeyState::Same | KeyState::Kept | KeyState::Missing);
            all || !is_quiet
        };
        lines.extend(secret.keys.iter().filter(is_shown).map(key_line));
    }
    for volume in &plan.volumes {
        lines.push(format!("volume {}: {}", volume.name, words(volume.action)));
    }
    lines.join("\n")
}

fn words(action: Action) -> &'static str {
    match action {
        Action::Exists => "exists",
        Action::Make => "will be made: it is not there yet",
        Action::Change => "will be changed",
        Action::LeaveAlone => "left alone",
        Action::LeaveOut => "left out",
    }
}

fn secret_words(secret: &SecretPlan) -> String {
    let why = match secret.action {
        Action::LeaveAlone => {
            " (deployed values may differ from those here; --rotate KEY replaces one)"
        }
        Action::LeaveOut => " (nobody gives one of its values)",
        _ => "",
    };
    format!("{}{why}", words(secret.action))
}

fn key_line(key: &KeyPlan) -> String {
    let source = key.source.map(|source| format!(", {}", source.words())).unwrap_or_default();
    let mark = key.fingerprint.as_ref().map(|mark| format!("  {mark}")).unwrap_or_default();
    let state = match key.state {
        KeyState::Same => "as here",
        KeyState::New => "new",
        KeyState::Replaced => "replaced",
        KeyState::Differs => "differs from what is deployed: left alone",
        KeyState::Unknown => "deployed by somebody else: left alone",
        KeyState::Kept => "deployed",
        KeyState::Missing => "not given",
    };
    format!("  {:<34} {state}{source}{mark}", key.name)
}

fn as_json(plan: &SetupPlan, environment: &str, file: &Path) -> Value {
    let key = |key: &KeyPlan| {
        json!({
            "name": key.name,
            "state": key.state,
            "source": key.source,
            "fingerprint": key.fingerprint.as_ref().map(|mark| mark.as_str()),
        })
    };
    let secret = |secret: &SecretPlan| {
        json!({
            "name": secret.name,
            "action": secret.action,
            "keys": secret.keys.iter().map(key).collect::<Vec<_>>(),
        })
    };
    let volumes = plan.volumes.iter();
    let volumes = volumes.map(|volume| json!({ "name": volume.name, "action": volume.action }));
    json!({
        "environment": { "name": environment, "action": plan.environment },
        "secrets": plan.secrets.iter().map(secret).collect::<Vec<_>>(),
        "volumes": volumes.collect::<Vec<_>>(),
        "problems": plan.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "env_file": file.display().to_string(),
        "done": plan.is_done(),
    })
}
