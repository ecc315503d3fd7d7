//! `rollback`: an earlier version of the services again.

use anyhow::Context as _;
use goat_services::app::APP;
use serde_json::json;

use crate::{
    backend,
    context::Context,
    exit::{Exit, UsageError},
    services,
    target::Target,
};

/// Deploy an earlier version of the services again; it becomes a new version
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask rollback        the version before
  cargo xtask rollback 3 --yes")]
pub(crate) struct Args {
    /// Number of the version, as `history` shows it; without it the one before
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Deploy on Modal without asking
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.announce_target();
    let (client, _) = backend::client(context).await?;
    let before = services::current(&client).await?;
    let before = before.ok_or_else(|| UsageError(format!("{APP} is not deployed")))?;
    let history = client.apps().history(&before.app.id).await?;
    let wanted = match args.to {
        Some(version) => history.iter().find(|it| it.version == version),
        None => history.get(1),
    };
    let wanted = wanted.ok_or_else(|| {
        UsageError("there is no such version; `cargo xtask history` lists them".to_owned())
    })?;
    if context.choice.target == Target::Modal && !args.yes {
        let question = format!(
            "This replaces version {} of {APP} on Modal by version {}. Go on?",
            before.version, wanted.version
        );
        if !context.printer.confirm(&question)? {
            return Err(UsageError("not rolled back: confirm with --yes".to_owned()).into());
        }
    }
    client.apps().rollback(&before.app.id, Some(wanted.version)).await?;
    let now = services::current(&client).await?.context("the app is gone")?;
    context.printer.json(&json!({
        "app": APP, "version": now.version, "before": before.version, "repeats": wanted.version,
    }))?;
    context.printer.note(&format!(
        "version {} of {APP} is deployed, which repeats {}; undo: cargo xtask rollback {}",
        now.version, wanted.version, before.version
    ));
    Ok(Exit::Ok)
}
