//! `completions`: a script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use serde_json::json;

use crate::{cli::Cli, exit::Exit, printer::Printer};

/// Print a completion script for a shell
///
/// Shells complete program names, not `cargo xtask`: make an alias of the name given with --name.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alias goat='cargo xtask'
  source <(cargo xtask completions bash --name goat)")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
    /// Name of the program to complete
    #[arg(long, default_value = "goat")]
    name: String,
}

pub(crate) fn run(args: Args, printer: &Printer) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), args.name, &mut script);
    let script = String::from_utf8(script)?;
    printer.json(&json!({"shell": args.shell.to_string(), "script": script}))?;
    printer.text(script.trim_end());
    Ok(Exit::Ok)
}
