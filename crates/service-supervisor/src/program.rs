//! The program: its commands, for binaries that differ in which registers of leases they know.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, Asked, Question};
use crate::{
    Environment, Error, Log, OpenRegister, Plan, Result, archive_wal, fetch_wal, launch, run,
};

/// Runs the services of a container: starts them in order, watches them, ends them all when told to or
/// when one of them ends, and lets requests from the outside through to them.
///
/// Exit codes: 0 ended as told (SIGTERM, SIGINT), 1 a service ended by itself, 2 a plan or variable that
/// can't be used, 3 a service that did not get ready, 4 services that had to be killed.
#[derive(Parser)]
#[command(name = "service-supervisor", version)]
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
    /// Asks the database of another container through its door: SQL of standard input, answered as psql would
    Ask {
        /// The variable with the address of that container
        #[arg(long, value_name = "VARIABLE")]
        url: String,
        /// The variable with the database's password
        #[arg(long, value_name = "VARIABLE")]
        key: String,
        /// Dumps the database instead
        #[arg(long)]
        dump: bool,
    },
    /// Says whether a plan can be used, and starts nothing
    Check {
        /// The plan, as JSON
        plan: PathBuf,
    },
}

/// The whole program. `register` opens what the lease of a plan's PostgreSQL names, where a binary knows such.
pub fn main(register: Option<OpenRegister>) -> ExitCode {
    let arguments = Arguments::parse();
    let log = Log::new(std::io::stderr());
    // A mistake in the plan is told here; what happens later, by the supervisor when it happens.
    let read = |path: &Path| Plan::read(path).inspect_err(|error| log.say(error.chain()));
    let done = match arguments.command {
        Command::Check { plan } => read(&plan).map(drop),
        Command::Run { plan } => read(&plan).and_then(|plan| carry_out(&plan, &log, register)),
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
        Command::Ask { url, key, dump } => return answer(ask_another(&url, &key, dump)),
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

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Error::Plan(format!("no threads can be started: {error}")))
}

fn carry_out(plan: &Plan, log: &Log, register: Option<OpenRegister>) -> Result<()> {
    let environment = Environment::of_process();
    runtime()?.block_on(async {
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
        let lease = plan.postgres.as_ref().and_then(|postgres| postgres.lease.name.as_deref());
        let register = lease.zip(register).map(|(name, open)| open(name));
        run(plan, &environment, log, &stop, register).await
    })
}

fn ask_another(url: &str, key: &str, dump: bool) -> Result<Asked> {
    let environment = Environment::of_process();
    let url = environment.need(url, "a question")?;
    let key = environment.need(key, "a question")?;
    let question = match dump {
        true => Question::Dump,
        false => Question::Sql(io::read_to_string(io::stdin()).unwrap_or_default()),
    };
    Ok(runtime()?.block_on(ask::ask(&question, url.expose(), key)))
}

/// What there is to say goes to standard output, mistakes too: who called sees nothing else.
fn answer(asked: Result<Asked>) -> ExitCode {
    let (text, code) = match asked {
        Ok(Asked { text, is_answer: true }) => (text, ExitCode::SUCCESS),
        Ok(Asked { text, is_answer: false }) => (text, ExitCode::FAILURE),
        Err(error) => (format!("ERROR: {}", error.chain()), ExitCode::from(code(&error))),
    };
    // Who does not listen any more misses nothing.
    let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
    code
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
