//! `urls`: where the deployed services are.

use crate::{backend, context::Context, exit::Exit, services};

/// Show where the deployed services are
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask urls
  cargo xtask urls --output json | jq -r .langfuse

Exit codes: 0 shown, 1 nothing is deployed")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (client, _) = backend::client(context).await?;
    let urls = services::urls(&client).await?;
    context.printer.json(&urls)?;
    for (name, url) in &urls {
        context.printer.text(&format!("{name:<9} {url}"));
    }
    if urls.is_empty() {
        context.printer.note("nothing is deployed: `cargo xtask deploy` does it");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Ok)
}
