//! A run from its arguments to its exit code.
//!
//! `prepare` reads what the flags name, `converse` puts the prompts to the model, `stop` ends the run from outside,
//! `end` says how it ended, and `record` writes that down.

mod converse;
mod end;
mod prepare;
mod record;
mod stop;

use std::{
    ffi::OsString,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use crate::{
    agent::Limits,
    cli::{self, Arguments, Command, FlagError},
    error::{Error, Result},
    exit_code,
    hardening::Environment,
    mcp::config::Variables,
    model::profile::Profile,
    progress::Progress,
    secret::Redactor,
    settings::{self, Endpoint},
    summary::Outcome,
    tool::{bash::Processes, read::pdf},
    transcript::Event,
};
use end::End;
use record::Recorder;
use stop::Stop;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Does what the arguments ask for and returns the exit code, one of [`exit_code`].
///
/// `environment` is what [`take_environment`](crate::hardening::take_environment) left: the keys must be out of the
/// process by now.
pub fn run(arguments: Vec<OsString>, environment: Environment) -> u8 {
    if arguments.first().is_some_and(|it| it == pdf::HELPER) {
        return pdf::help(&arguments[1..]);
    }
    let redactor = redactor(&environment);
    let progress = Progress::new(redactor.clone());
    match cli::parse(arguments) {
        Ok(Command::Help) => print(&progress, cli::HELP),
        Ok(Command::Version) => print(&progress, &format!("goat-eval {VERSION}\n")),
        Ok(Command::Run(arguments)) => Run::new(arguments, environment, redactor).finish(),
        Err(error) => bad_flag(&progress, &error),
    }
}

fn bad_flag(progress: &Progress, error: &FlagError) -> u8 {
    progress.full_line(&error.to_string());
    exit_code::BAD_FLAG
}

fn print(progress: &Progress, text: &str) -> u8 {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => exit_code::ANSWERED,
        Err(error) => {
            progress.full_line(&format!("cannot write to stdout: {error}"));
            exit_code::USAGE
        }
    }
}

/// Masks the keys of the environment. The default key is a word of this program, not a secret.
fn redactor(environment: &Environment) -> Redactor {
    Redactor::new(environment.secrets.iter().map(|(_, secret)| secret.clone()))
}

/// A run that has its arguments.
struct Run {
    arguments: Arguments,
    endpoint: Endpoint,
    profile: Profile,
    limits: Limits,
    /// What is wrong with the settings of the model; told when the files of the run exist.
    wrong: Option<Error>,
    /// What `${NAME}` in the MCP config may stand for.
    variables: Variables,
    processes: Arc<Processes>,
    redactor: Redactor,
    progress: Progress,
    recorder: Arc<Recorder>,
}

impl Run {
    fn new(mut arguments: Arguments, environment: Environment, redactor: Redactor) -> Self {
        let start = Instant::now();
        prepare::make_absolute(&mut arguments);
        let endpoint = Endpoint::new(&arguments, &environment);
        let (profile, price, wrong) =
            match settings::model(&endpoint.model, &arguments, &environment) {
                Ok((profile, price)) => (profile, price, None),
                Err(error) => (Profile::of(&endpoint.model), None, Some(error)),
            };
        let (max_tokens, max_cost) = (arguments.max_tokens, arguments.max_cost);
        let limits = Limits { max_tokens, max_cost, price };
        let variables = Variables::allowed(&arguments.mcp_env, &environment);
        let redactor = redactor.with(variables.secrets());
        let progress = Progress::new(redactor.clone());
        let processes = Arc::new(Processes::new(environment.public));
        let (path, model) = (arguments.summary.clone(), profile.model.clone());
        let recorder = Recorder::new(start, path, model, price, Arc::clone(&processes));
        Run {
            arguments,
            endpoint,
            profile,
            limits,
            wrong,
            variables,
            processes,
            redactor,
            progress,
            recorder: Arc::new(recorder),
        }
    }

    /// Works, ends whatever still runs, prints the answer, completes the files.
    fn finish(mut self) -> u8 {
        let (end, answer) = guarded(|| self.work());
        self.processes.stop_all();
        let mut summary = self.recorder.summary(&end);
        summary.error = summary.error.map(|error| self.redactor.clean(&error));
        if !answer.is_empty() && print(&self.progress, &answer) != exit_code::ANSWERED {
            summary.exit_code = exit_code::USAGE;
            summary.outcome = Outcome::of_exit_code(summary.exit_code);
            summary.error = Some("the answer could not be written to stdout".into());
        }
        match self.recorder.begin() {
            Some(begun) => self.recorder.record(begun, &summary, &self.progress),
            // The thread that watches has lost patience, records another end, and ends the process.
            None => loop {
                std::thread::park();
            },
        }
    }

    /// How the work ended, and the answer that is not printed yet.
    fn work(&mut self) -> (End, String) {
        let limit = self.arguments.timeout;
        let stop = match Stop::watch(limit, self.recorder.start, &self.recorder) {
            Ok(stop) => stop,
            Err(error) => return (End::Failed(Error::Setup(error)), String::new()),
        };
        let worked = self.prepare().and_then(|start| self.hold(start, stop));
        worked.unwrap_or_else(|error| (End::Failed(error), String::new()))
    }

    fn note(&self, event: Event) {
        if let Err(error) = self.recorder.transcript.write(event) {
            self.progress.line(&format!("warning: the transcript ends here: {error}"));
        }
    }
}

/// The work, or that it broke: also then everything is ended and recorded.
fn guarded(work: impl FnOnce() -> (End, String)) -> (End, String) {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
        let error = Error::Broken { message: said.unwrap_or_default() };
        (End::Failed(error), String::new())
    })
}

fn output_error(what: &'static str, path: Option<PathBuf>, source: io::Error) -> Error {
    Error::Output { what, path: path.unwrap_or_default(), source }
}

/// How a conversation ended, and its answer that is not printed yet.
type Held = Result<(End, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_our_own_is_an_end_like_others() {
        let (end, _) = guarded(|| panic!("index {} of 3", 7));
        assert_eq!(end.exit_code(), exit_code::USAGE);
        let said = end.error(crate::agent::Tally::default()).unwrap();
        assert_eq!(said, "the agent itself broke, which is a fault to be reported: index 7 of 3");
    }
}
