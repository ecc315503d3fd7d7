//! `traces list`.

use super::{find, view};
use crate::{
    context::Context,
    exit::Exit,
    reach::{ServiceArgs, Services},
};

/// List traces, the newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask traces list
  cargo xtask traces list --session 20261126_140000 --limit 100
  cargo xtask traces list --output json

Langfuse is asked with the project's keys: LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, or those that
setup wrote (LANGFUSE_INIT_PROJECT_…), of .env or the environment.")]
pub(super) struct Args {
    /// Those of this session alone: of a run
    #[arg(long)]
    session: Option<String>,
    /// Those of this name alone: of a task
    #[arg(long)]
    name: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    #[command(flatten)]
    services: ServiceArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let client = Services::new(&args.services, context)?.langfuse().await?;
    let (session, name) = (args.session.as_deref(), args.name.as_deref());
    let rows = find::newest(&client, session, name, args.limit.into()).await?;
    context.printer.json(&rows)?;
    if rows.is_empty() {
        context.printer.note("no trace");
    } else {
        context.printer.text(&view::traces(&rows));
    }
    Ok(Exit::Ok)
}
