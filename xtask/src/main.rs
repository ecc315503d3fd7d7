//! The commands of this workspace. `cargo xtask help` lists them.
//!
//! Each command is a file below `cmd`: its module doc is its help, `Args` its arguments, `run` composes
//! library calls. What people or machines read goes to standard output, everything else to standard
//! error.

mod agent;
mod allowance;
mod backend;
mod bench;
mod cli;
mod cmd;
mod context;
mod eval_report;
mod exit;
mod extras;
mod local_server;
mod model;
mod printer;
mod progress;
mod reach;
mod results_sink;
mod services;
mod signals;
mod soak;
mod state;
mod sweep;
mod table;
mod target;
mod volume_store;
mod workspace;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    context::Context,
    exit::Exit,
    printer::Printer,
};

fn main() -> ExitCode {
    // Sandboxes are made by this binary, started again: it must know so before anything else.
    #[cfg(target_os = "linux")]
    container_runtime::run_if_spawner(modal_local::builtins());

    let cli = Cli::parse();
    let printer = Printer::new(&cli.global);
    let exit = match run(cli, printer.clone()) {
        Ok(exit) => exit,
        Err(error) => {
            printer.error(&error);
            exit::of_error(&error)
        }
    };
    exit.into()
}

fn run(cli: Cli, printer: Printer) -> anyhow::Result<Exit> {
    init_tracing(cli.global.verbose);
    // These need neither a target nor a place for results.
    match cli.command {
        Command::Ci(args) => return cmd::ci::run(&args, &printer),
        Command::Completions(args) => return cmd::completions::run(args, &printer),
        _ => {}
    }
    let context = Context::new(cli.global, printer)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(cmd::run(cli.command, &context));
    // A blocked file operation must not keep a finished command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    exit
}

/// The variable that says what is logged, as `tracing_subscriber`'s filters do.
pub(crate) const LOG_FILTER: &str = "GOAT_LOG";

fn init_tracing(verbose: u8) {
    let default = match verbose {
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env(LOG_FILTER)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    lines.with_writer(std::io::stderr).init();
}
