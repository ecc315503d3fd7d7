//! `litellm`: the proxy's models, its configuration, and a linter for any configuration.

mod config;
pub(crate) mod environment;
mod lint;
mod models;
pub(crate) mod versions;

use crate::{context::Context, exit::Exit};

/// Models, configuration and linter of the LiteLLM proxy
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask litellm models
  cargo xtask litellm config --into /tmp/proxy
  cargo xtask litellm lint config.yaml --fix
  cargo xtask litellm rules api-base-path")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Models(models::Args),
    Config(config::Args),
    Lint(lint::Args),
    Rules(lint::RulesArgs),
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        Command::Models(args) => models::run(&args, context),
        Command::Config(args) => config::run(&args, context).await,
        Command::Lint(args) => lint::run(&args, context).await,
        Command::Rules(args) => lint::rules(&args, context),
    }
}
