//! `stop`: the services are no longer deployed.

use goat_services::app::APP;
use serde_json::json;

use crate::{
    backend,
    context::Context,
    exit::{Exit, UsageError},
};

/// Stop the deployed services with all of their containers
///
/// Secrets and volumes stay. Deploying again starts from them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask stop --yes
  cargo xtask stop --target local --yes")]
pub(crate) struct Args {
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let (client, _) = backend::client(context).await?;
    let app = client.apps().by_name(APP).await?;
    let question = format!("This ends {APP} in environment {}. Go on?", context.environment);
    if !args.yes && !context.printer.confirm(&question)? {
        return Err(UsageError("not stopped: confirm with --yes".to_owned()).into());
    }
    client.apps().stop(&app.id).await?;
    context.printer.json(&json!({ "app": APP, "stopped": true }))?;
    context.printer.note(&format!("{APP} is stopped; undo: cargo xtask deploy"));
    Ok(Exit::Ok)
}
