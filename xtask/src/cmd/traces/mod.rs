//! `traces`: what became of the calls of models.

pub(crate) mod find;
mod list;
mod show;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod view;

pub(crate) use self::view::ObservationRow;

use crate::{context::Context, exit::Exit};

/// Traces of model calls in Langfuse: list, show, prove that they arrive
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask traces status
  cargo xtask traces list --session 20261126_140000
  cargo xtask traces show 0af7651916cd43dd8448eb211c80319c
  cargo xtask traces show 20261126_140000/math-simple
  cargo xtask traces verify

docs/traces.md says how a call becomes a trace.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Status(status::Args),
    List(list::Args),
    Show(show::Args),
    Verify(Box<verify::Args>),
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        Command::Status(args) => status::run(&args, context).await,
        Command::List(args) => list::run(&args, context).await,
        Command::Show(args) => show::run(&args, context).await,
        Command::Verify(args) => verify::run(&args, context).await,
    }
}
