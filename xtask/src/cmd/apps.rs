//! `apps`: the apps of the environment.

use modal_client::{AppInfo, AppState};
use serde_json::json;

use crate::{backend, context::Context, exit::Exit, services, table::render};

/// List the apps of the environment: state, containers, age
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask apps
  cargo xtask apps --target local --output json")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (client, _) = backend::client(context).await?;
    let apps = client.apps().list().await?;
    let value = |app: &AppInfo| {
        json!({
            "id": app.id.to_string(),
            "name": name(app),
            "state": words(app.state),
            "containers": app.running_tasks,
            "created_at": services::moment(app.created_at),
            "stopped_at": services::moment(app.stopped_at),
        })
    };
    context.printer.json(&apps.iter().map(value).collect::<Vec<_>>())?;
    let row = |app: &AppInfo| {
        vec![
            name(app).to_owned(),
            words(app.state).to_owned(),
            app.running_tasks.to_string(),
            services::moment(app.created_at).unwrap_or_default(),
            app.id.to_string(),
        ]
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    context.printer.text(&render(&["app", "state", "containers", "created", "id"], &rows));
    Ok(Exit::Ok)
}

/// A deployed app is known by its name, others by what their authors call them.
fn name(app: &AppInfo) -> &str {
    app.name.as_deref().unwrap_or(&app.description)
}

fn words(state: AppState) -> &'static str {
    match state {
        AppState::Initializing => "being set up",
        AppState::Deployed => "deployed",
        AppState::Ephemeral => "running",
        AppState::Detached => "detached",
        AppState::Stopping => "stopping",
        AppState::Stopped => "stopped",
        _ => "unknown",
    }
}
