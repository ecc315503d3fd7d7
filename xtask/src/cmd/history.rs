//! `history`: the versions of the services that were deployed.

use goat_services::app::APP;
use modal_client::AppVersion;
use serde_json::json;

use crate::{backend, context::Context, exit::Exit, services, table::render};

/// List the versions of the services that were deployed, newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask history
  cargo xtask history --output json | jq '.[0].version'")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (client, _) = backend::client(context).await?;
    let app = client.apps().by_name(APP).await?;
    let history = client.apps().history(&app.id).await?;
    let value = |it: &AppVersion| {
        json!({
            "version": it.version,
            "tag": it.tag,
            "deployed_at": services::moment(it.deployed_at),
            "deployed_by": it.deployed_by,
            "rollback_of": it.rollback_of,
        })
    };
    context.printer.json(&history.iter().map(value).collect::<Vec<_>>())?;
    let row = |it: &AppVersion| {
        let note = it.rollback_of.map(|of| format!("repeats {of}")).unwrap_or_default();
        vec![
            it.version.to_string(),
            services::moment(it.deployed_at).unwrap_or_default(),
            it.tag.clone().unwrap_or_default(),
            note,
        ]
    };
    let rows: Vec<_> = history.iter().map(row).collect();
    context.printer.text(&render(&["version", "deployed", "contents", ""], &rows));
    Ok(Exit::Ok)
}
