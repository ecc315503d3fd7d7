//! `service-supervisor`: runs the services that a plan names, and the door in front of them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_supervisor::{Environment, Error, Log, Plan, archive_wal, fetch_wal, launch};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the services of a container: starts them in order, watches them, ends them all when told to or
/// when one of them ends, and lets requests from the outside through to them.
///
/// Exit codes: 0 ended as told (SIGTERM, SIGINT), 1 a service ended by itself, 2 a plan or variable that
/// can't be used, 3 a service that did not get ready, 4 services that had to be killed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carries out a plan
    Run {
        /// The plan, as JSON
        plan: PathBuf,
    },
    /// Becomes another program, which ends with its parent
    #[command(hide = true)]
    Launch {
        /// The process that it must not outlive
        parent: u32,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Puts a file of PostgreSQL's WAL into the archive
    #[command(hide = true)]
    ArchiveWal {
        /// The directory of what is kept
        store: PathBuf,
        /// Who writes
        writer: String,
        /// The file
        from: PathBuf,
        /// Its name in the archive
        name: String,
    },
    /// Takes a file of PostgreSQL's WAL out of the archive
    #[command(hide = true)]
    FetchWal {
        /// The directory of what is kept
        store: PathBuf,
        /// Its name in the archive
        name: String,
        /// Where to
        to: PathBuf,
    },
    /// Says whether a plan can be used, and starts nothing
    Check {
        /// The plan, as JSON
        plan: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = Log::new(std::io::stderr());
    // A mistake in the plan is told here; what happens later, by the supervisor when it happens.
    let read = |path: &Path| Plan::read(path).inspect_err(|error| log.say(error.chain()));
    let done = match arguments.command {
        Command::Check { plan } => read(&plan).map(drop),
        Command::Run { plan } => read(&plan).and_then(|plan| run(&plan, &log)),
        Command::ArchiveWal { store, writer, from, name } => {
            return wal(&log, archive_wal(&store, &writer, &from, &name));
        }
        Command::FetchWal { store, name, to } => {
            return match fetch_wal(&store, &name, &to) {
                // How it learns where the archive ends: nothing to tell.
                Err(error) if error.kind() == io::ErrorKind::NotFound => ExitCode::FAILURE,
                fetched => wal(&log, fetched),
            };
        }
        Command::Launch { parent, command } => {
            return match command.split_first() {
                Some((program, arguments)) => launch(parent, program, arguments).into(),
                None => ExitCode::from(2),
            };
        }
    };
    done.map_or_else(|error| ExitCode::from(code(&error)), |()| ExitCode::SUCCESS)
}

fn wal(log: &Log, done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.say(format!("WAL: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan, log: &Log) -> service_supervisor::Result<()> {
    let environment = Environment::of_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::Plan(format!("no threads can be started: {error}")))?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let stop = stop.clone();
            let mut signals = signal(kind)
                .map_err(|error| Error::Plan(format!("signals can't be listened to: {error}")))?;
            tokio::spawn(async move {
                signals.recv().await;
                stop.cancel();
            });
        }
        service_supervisor::run(plan, &environment, log, &stop, None).await
    })
}

/// Exit codes, as the help tells them.
fn code(error: &Error) -> u8 {
    match error {
        Error::Died { .. } | Error::Wait { .. } => 1,
        Error::ReadPlan { .. }
        | Error::Itself(_)
        | Error::ParsePlan { .. }
        | Error::Plan(_)
        | Error::MissingVariable { .. }
        | Error::TaskKeys { .. }
        | Error::Budgets { .. }
        | Error::SpoolTarget { .. }
        | Error::NoUser { .. } => 2,
        Error::Killed { .. } => 4,
        _ => 3,
    }
}
