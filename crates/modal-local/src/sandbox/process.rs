//! One program in a sandbox: its input, its recorded output, its end.
//!
//! The entrypoint and every command are run in the same way. Output is read by the server from the
//! start, whether or not anybody asks for it, and kept for readers that come late.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use container_runtime::stream::{Caps, OutputLog, pump};
use container_runtime::{Container, ExecSpec, Exit, ExitStatus, Process, PtySize, Stdio};
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::io::{ReaderStream, StreamReader};
use tokio_util::sync::CancellationToken;

use super::activity::Use;
use super::ending::Ending;
use super::environment::Environment;
use super::readers::Readers;
use super::stdin::Stdin;
use crate::fs_tools;
use crate::fs_tools::read::LARGEST;

/// What a shell reports for a program that does not exist.
const NOT_FOUND: i32 = 127;
/// What a shell reports for a program that cannot be executed.
const NOT_EXECUTABLE: i32 = 126;
/// The signal that ends what outlives its time.
const SIGKILL: i32 = 9;
/// How long after its time a command is reported as killed. The SDKs count the same time from a little later and report a
/// time-out (-1) when it is over; an earlier answer would be a signal (137), now the one, now the other.
const TOLD_LATER: Duration = Duration::from_millis(250);

/// How much of an output is kept until somebody reads it: programs often wait for an end before they read what led to it.
const OUTPUT: Caps = Caps { memory: 1 << 20, spill: 256 << 20 };
/// The same for the contents of a file, which the JavaScript SDK reads when the command has ended: the largest one whole.
const CONTENTS: Caps = Caps { memory: 1 << 20, spill: LARGEST + (1 << 20) };

/// Where an output descriptor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputTo {
    /// Nowhere.
    Null,
    /// Kept for readers.
    Log,
    /// For standard error: into the log of standard output.
    Stdout,
}

/// A terminal for the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terminal {
    pub(crate) size: PtySize,
    /// Values of `TERM`, `COLORTERM`, `TERM_PROGRAM`; empty ones are not set.
    pub(crate) variables: [(&'static str, String); 3],
}

/// What to run.
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Environment,
    pub(crate) workdir: PathBuf,
    pub(crate) stdout: OutputTo,
    pub(crate) stderr: OutputTo,
    pub(crate) terminal: Option<Terminal>,
    /// After this it is killed.
    pub(crate) timeout: Option<Duration>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself, or because it or its container was told to.
    Exited(ExitStatus),
    /// Its container failed under it: no end of its own.
    Lost,
}

impl End {
    /// What callers are told, who can be told nothing but an exit.
    fn status(self) -> ExitStatus {
        match self {
            Self::Exited(status) => status,
            Self::Lost => ExitStatus { how: Exit::Signal(SIGKILL), oom: false },
        }
    }
}

/// A program that was started, and stays readable after it ended.
pub(crate) struct RunningProcess {
    pub(crate) stdin: Arc<Stdin>,
    pub(crate) stdout: OutputLog,
    pub(crate) stderr: OutputLog,
    /// Who reads either at the moment.
    pub(crate) readers: Readers,
    end: watch::Receiver<Option<End>>,
    ended_at: Arc<OnceLock<Instant>>,
    /// Why it was never started.
    failure: Option<String>,
    /// Its output is a file's contents, which nobody can use with a gap.
    pub(crate) is_contents: bool,
}

impl RunningProcess {
    /// A program that could not be started: it ended with the code that a shell would give.
    pub(crate) fn not_started(error: &container_runtime::Error, spill_dir: &Path) -> Self {
        let ended = CancellationToken::new();
        ended.cancel();
        let stdout = OutputLog::new(spill_dir, OUTPUT);
        let stderr = OutputLog::new(spill_dir, OUTPUT);
        let failure = describe(error);
        stderr.append(format!("{failure}\n").as_bytes());
        stdout.finish();
        stderr.finish();
        let how = Exit::Code(if error.is_program_not_found() { NOT_FOUND } else { NOT_EXECUTABLE });
        let (_, end) = watch::channel(Some(End::Exited(ExitStatus { how, oom: false })));
        let stdin = Arc::new(Stdin::new(None, false, ended));
        let ended_at = Arc::new(OnceLock::from(Instant::now()));
        let (readers, failure) = (Readers::new(), Some(failure));
        Self { stdin, stdout, stderr, readers, end, ended_at, failure, is_contents: false }
    }

    /// Starts `command`. `in_use` is dropped when the program has ended.
    pub(crate) async fn start(
        container: &Container,
        command: Command,
        spill_dir: &Path,
        in_use: Option<Use>,
    ) -> container_runtime::Result<Self> {
        let timeout = command.timeout;
        let (stdout_to, stderr_to) = (command.stdout, command.stderr);
        let terminal = command.terminal.is_some();
        let is_contents = command.argv.first().is_some_and(|program| program == fs_tools::PATH);
        let mut process = container.exec(exec_spec(command)).await?;
        let ended = CancellationToken::new();
        let pipe = process.take_stdin().map(|pipe| Box::new(pipe) as _);
        let stdin = Arc::new(Stdin::new(pipe, terminal, ended.clone()));
        let stdout = OutputLog::new(spill_dir, if is_contents { CONTENTS } else { OUTPUT });
        let stderr = OutputLog::new(spill_dir, OUTPUT);
        record(&mut process, (stdout_to, &stdout), (stderr_to, &stderr), &ended);
        let (exited, end) = watch::channel(None);
        let input = Arc::clone(&stdin);
        let ended_at = Arc::new(OnceLock::new());
        let at = Arc::clone(&ended_at);
        tokio::spawn(async move {
            let end = wait(&process, timeout).await;
            at.get_or_init(Instant::now);
            exited.send_replace(Some(end));
            input.abandon().await;
            drop(in_use);
        });
        let (readers, failure) = (Readers::new(), None);
        Ok(Self { stdin, stdout, stderr, readers, end, ended_at, failure, is_contents })
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        self.end.borrow().map(End::status)
    }

    /// Waits for its end and answers what that means for a sandbox whose entrypoint it is; `None` if
    /// the sandbox's container failed, which alone knows why.
    pub(crate) async fn ending(&self) -> Option<Ending> {
        match (self.end().await, &self.failure) {
            (End::Lost, _) => None,
            (End::Exited(exit), Some(reason)) => {
                Some(Ending::not_started(exit.shell_code(), reason))
            }
            (End::Exited(exit), None) => Some(Ending::exited(exit)),
        }
    }

    /// Waits for its end. Where its container failed under it that is signal 9.
    pub(crate) async fn wait(&self) -> ExitStatus {
        self.end().await.status()
    }

    async fn end(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Lost),
            // The task that waits was dropped, with the whole server.
            Err(_) => End::Lost,
        }
    }

    /// Whether it ended so long ago.
    pub(crate) fn ended_before(&self, ago: Duration) -> bool {
        self.ended_at.get().is_some_and(|at| at.elapsed() >= ago)
    }

    /// Bytes of output that are kept for readers, in memory or on disk.
    pub(crate) fn retained(&self) -> u64 {
        [&self.stdout, &self.stderr].map(|log| log.len() - log.dropped()).iter().sum()
    }
}

/// An error and its cause, for people.
pub(crate) fn describe(error: &container_runtime::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn exec_spec(command: Command) -> ExecSpec {
    let mut env = command.env;
    let mut spec = ExecSpec::new(command.argv);
    if let Some(terminal) = command.terminal {
        for (name, value) in &terminal.variables {
            if !value.is_empty() {
                env.put(name, value);
            }
        }
        spec.pty = Some(terminal.size);
    }
    let pipe = |to| if to == OutputTo::Null { Stdio::Null } else { Stdio::Pipe };
    spec.env = env.to_os();
    spec.cwd = command.workdir;
    spec.stdin = Stdio::Pipe;
    spec.stdout = pipe(command.stdout);
    spec.stderr = pipe(command.stderr);
    spec
}

/// Starts to record what the program puts out. A log without a source is finished at once.
fn record(
    process: &mut Process,
    (stdout_to, stdout): (OutputTo, &OutputLog),
    (stderr_to, stderr): (OutputTo, &OutputLog),
    ended: &CancellationToken,
) {
    let out = process.take_stdout().filter(|_| stdout_to != OutputTo::Null);
    let err = process.take_stderr().filter(|_| stderr_to != OutputTo::Null);
    match (out, err) {
        (Some(out), Some(err)) if stderr_to == OutputTo::Stdout => {
            spawn_pump(Some(merged(out, err)), stdout, ended);
            stderr.finish();
        }
        (out, err) => {
            spawn_pump(out, stdout, ended);
            spawn_pump(err, stderr, ended);
        }
    }
}

fn merged(a: impl AsyncRead, b: impl AsyncRead) -> impl AsyncRead {
    let (a, b) = (Box::pin(ReaderStream::new(a)), Box::pin(ReaderStream::new(b)));
    StreamReader::new(futures::stream::select(a, b))
}

fn spawn_pump<R>(reader: Option<R>, log: &OutputLog, ended: &CancellationToken)
where
    R: AsyncRead + Send + 'static,
{
    match reader {
        Some(reader) => {
            let (log, ended) = (log.clone(), ended.clone());
            tokio::spawn(pump(reader, log, async move { ended.cancelled().await }));
        }
        None => log.finish(),
    }
}

/// Waits for the end, and brings it about once `timeout` is over.
async fn wait(process: &Process, timeout: Option<Duration>) -> End {
    let status = match timeout {
        None => process.wait().await,
        Some(limit) => match tokio::time::timeout(limit, process.wait()).await {
            Ok(status) => status,
            Err(_) => {
                if let Err(error) = process.kill(SIGKILL).await
                    && !error.is_gone()
                {
                    tracing::warn!(%error, "a command that timed out could not be killed");
                }
                let status = process.wait().await;
                tokio::time::sleep(TOLD_LATER).await;
                status
            }
        },
    };
    status.map_or(End::Lost, End::Exited)
}
