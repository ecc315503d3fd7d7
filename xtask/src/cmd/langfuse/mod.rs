//! `langfuse`: the database behind Langfuse.

mod backup;
mod dump;
mod query;
mod restore;

use crate::{context::Context, exit::Exit};

/// Langfuse's database: back it up, go back to an older state, ask it, dump it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask langfuse status
  cargo xtask langfuse query 'SELECT count(*) FROM traces'
  cargo xtask langfuse dump --into langfuse.sql
  cargo xtask langfuse backup
  cargo xtask langfuse restore --until 2026-11-26T12:00:00Z

The supervisor beside the database is asked, with POSTGRES_PASSWORD of .env or the environment.
docs/postgres.md says how the data outlives its container.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Status(backup::StatusArgs),
    Backup(backup::Args),
    Restore(restore::Args),
    Query(query::Args),
    Dump(dump::Args),
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        Command::Status(args) => backup::status(&args, context).await,
        Command::Backup(args) => backup::run(&args, context).await,
        Command::Restore(args) => restore::run(&args, context).await,
        Command::Query(args) => query::run(&args, context).await,
        Command::Dump(args) => dump::run(&args, context).await,
    }
}

pub(crate) use query::Answer;
