//! Commands in a sandbox.

use std::{borrow::Cow, collections::BTreeMap, future::IntoFuture, time::Duration};

use futures::future::BoxFuture;
use modal_proto::{client as api, task_command_router as router_api};
use secret_string::SecretString;
use tokio::time::Instant;

use super::{
    definition::{seconds, secret_sources},
    spec::check_arguments,
};

use crate::{
    error::{Error, Operation, Result},
    router::{Descriptor, Feed, OutputStream, Router, RouterFailure, StdinWriter, Target},
    rpc::methods,
    secrets::Secret,
};

/// How long the server holds one question for the exit code.
const WAIT: Duration = Duration::from_secs(60);
/// The pause before it is asked again.
const WAIT_AGAIN: Duration = Duration::from_millis(100);
/// How long after a command's own time-out its end and its output may still come.
const GRACE: Duration = Duration::from_secs(15);

/// Starts a command; see [`Sandbox::exec`](super::Sandbox::exec).
#[derive(Clone)]
#[must_use = "nothing is started until it is awaited"]
pub struct Exec {
    router: Router,
    pub(crate) spec: ExecSpec,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// A command, as plain data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExecSpec {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, SecretString>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) workdir: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stdout: Redirect,
    pub(crate) stderr: Redirect,
    pub(crate) pty: Option<Pty>,
}

/// Where an output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirect {
    /// To whoever reads it.
    #[default]
    Pipe,
    /// Nowhere.
    Null,
}

/// A terminal for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// Its height in lines.
    pub rows: u16,
    /// Its width in characters.
    pub columns: u16,
    /// What `TERM` says.
    pub term: String,
}

/// A command that runs, or ran.
pub struct Process {
    router: Router,
    id: String,
    stdin: Option<StdinWriter>,
    deadline: Option<Instant>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.id)
            .field("sandbox", self.router.sandbox())
            .finish_non_exhaustive()
    }
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The exit code; 128 and the signal's number after a signal.
    pub code: i32,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Its output as text; bytes that are not UTF-8 are replaced.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Its error output as text; bytes that are not UTF-8 are replaced.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Whether the exit code is 0.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }
}

impl Exec {
    pub(crate) fn new(router: Router, command: Vec<String>) -> Self {
        let spec = ExecSpec {
            command,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            workdir: None,
            timeout: None,
            stdout: Redirect::Pipe,
            stderr: Redirect::Pipe,
            pty: None,
        };
        Self { router, spec }
    }

    /// An environment variable, besides the sandbox's.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    /// Environment variables of a secret.
    pub fn secret(mut self, secret: &Secret) -> Self {
        self.spec.secrets.push(secret.clone());
        self
    }

    /// The directory it starts in; without one, the sandbox's.
    pub fn workdir(mut self, path: impl Into<String>) -> Self {
        self.spec.workdir = Some(path.into());
        self
    }

    /// How long it may run, to the second; then the server kills it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// Where its output goes.
    pub fn stdout(mut self, redirect: Redirect) -> Self {
        self.spec.stdout = redirect;
        self
    }

    /// Where its error output goes.
    pub fn stderr(mut self, redirect: Redirect) -> Self {
        self.spec.stderr = redirect;
        self
    }

    /// Runs it in a terminal; its outputs are one then.
    pub fn pty(mut self, pty: Pty) -> Self {
        self.spec.pty = Some(pty);
        self
    }

    /// Starts it. One RPC; repeating it after a broken connection starts nothing twice.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such program, [`Error::SandboxGone`] if the sandbox has ended.
    pub async fn start(self) -> Result<Process> {
        let operation =
            Operation::new("start a command in", format!("sandbox `{}`", self.router.sandbox()));
        check_arguments(&self.spec.command)
            .map_err(|problem| Error::invalid(operation.clone(), problem))?;
        let id = uuid::Uuid::new_v4().to_string();
        let query = start_request(self.router.task().await?.to_string(), id.clone(), &self.spec);
        let method = &methods::TASK_EXEC_START;
        let started = self.router.unary(method, &query, &operation, None).await;
        if let Err(failure) = started {
            return Err(not_started(&self.router, failure.into_error(method.name, operation)).await);
        }
        let stdin = StdinWriter::new(self.router.clone(), Target::Exec(id.clone()));
        let deadline = self.spec.timeout.map(|timeout| Instant::now() + timeout + GRACE);
        Ok(Process { router: self.router, id, stdin: Some(stdin), deadline })
    }

    /// Starts it, reads both outputs to their end, and waits for it. Its input is closed at once.
    pub async fn output(self) -> Result<Output> {
        let mut process = self.start().await?;
        process.close_stdin().await?;
        process.output().await
    }
}

/// Routers say "not found" of a missing program and of a sandbox that has ended: the sandbox itself knows.
async fn not_started(router: &Router, error: Error) -> Error {
    match error {
        Error::NotFound { operation, source } | Error::Conflict { operation, source }
            if router.has_ended().await =>
        {
            router.gone(operation, source)
        }
        error => error,
    }
}

impl IntoFuture for Exec {
    type Output = Result<Process>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl Process {
    pub(crate) fn attach(router: Router, id: String) -> Self {
        Self { router, id, stdin: None, deadline: None }
    }

    /// Its id, with which [`Sandbox::process`](super::Sandbox::process) finds it again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its input; `None` if it was taken, or this process was not started here.
    pub fn stdin(&mut self) -> Option<&mut StdinWriter> {
        self.stdin.as_mut()
    }

    /// Takes its input, to be written to beside reading. Dropping it does not close it: `shutdown` does.
    pub fn take_stdin(&mut self) -> Option<StdinWriter> {
        self.stdin.take()
    }

    /// Its input, of a command that somebody else started: writing goes on behind what has arrived. One RPC.
    ///
    /// Whoever wrote to it before must have stopped.
    pub async fn resume_stdin(&self) -> Result<StdinWriter> {
        crate::router::resume(self.router.clone(), self.id.clone()).await
    }

    /// Closes its input, if it was not taken.
    pub async fn close_stdin(&mut self) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let Some(mut stdin) = self.stdin.take() else { return Ok(()) };
        match stdin.shutdown().await {
            Ok(()) => Ok(()),
            // It has ended already: nobody is left to close it for.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error.downcast::<Error>().unwrap_or_else(|error| Error::Transport {
                operation: self.operation("close the input of a command in"),
                source: error.into(),
            })),
        }
    }

    /// Its output from the start.
    pub fn stdout(&self) -> OutputStream {
        self.stdout_from(0)
    }

    /// Its output from a byte on.
    pub fn stdout_from(&self, offset: u64) -> OutputStream {
        self.read(Descriptor::Stdout, offset)
    }

    /// Its error output from the start.
    pub fn stderr(&self) -> OutputStream {
        self.stderr_from(0)
    }

    /// Its error output from a byte on.
    pub fn stderr_from(&self, offset: u64) -> OutputStream {
        self.read(Descriptor::Stderr, offset)
    }

    fn read(&self, descriptor: Descriptor, offset: u64) -> OutputStream {
        let feed = Feed::Exec { exec: self.id.clone(), descriptor };
        OutputStream::new(self.router.clone(), feed, offset, self.deadline)
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// Waits until it has ended, and returns its exit code: 128 and the number after a signal, so 137
    /// if the server killed it at its time-out.
    ///
    /// # Errors
    /// [`Error::SandboxGone`] if the sandbox ended first, [`Error::Deadline`] if the server says nothing
    /// long after the command's time-out.
    pub async fn wait(&self) -> Result<i32> {
        let operation = self.operation("wait for a command in");
        let Some(deadline) = self.deadline else { return self.ask_until_it_ends(operation).await };
        let asking = self.ask_until_it_ends(operation.clone());
        tokio::time::timeout_at(deadline, asking).await.unwrap_or_else(|_| {
            Err(Error::deadline(operation, "the server did not end it at its time-out"))
        })
    }

    async fn ask_until_it_ends(&self, operation: Operation) -> Result<i32> {
        loop {
            let query = wait_request(self.router.task().await?.to_string(), &self.id);
            let asked =
                self.router.unary(&methods::TASK_EXEC_WAIT, &query, &operation, Some(WAIT)).await;
            match asked.map(|answer| answer.exit_status.map(code_of_wait)) {
                Ok(Some(code)) => return Ok(code),
                Ok(None) => {}
                Err(failure) if failure.code() == Some(tonic::Code::DeadlineExceeded) => {}
                Err(failure) => {
                    return Err(self.failed(failure, methods::TASK_EXEC_WAIT.name, operation));
                }
            }
            tokio::time::sleep(WAIT_AGAIN).await;
        }
    }

    /// Its exit code, or `None` while it runs. One RPC.
    pub async fn poll(&self) -> Result<Option<i32>> {
        let operation = self.operation("look at a command in");
        let query = router_api::TaskExecPollRequest {
            task_id: self.router.task().await?.to_string(),
            exec_id: self.id.clone(),
        };
        let method = &methods::TASK_EXEC_POLL;
        match self.router.unary(method, &query, &operation, None).await {
            Ok(answer) => Ok(answer.exit_status.map(code_of_poll)),
            Err(failure) => Err(self.failed(failure, method.name, operation)),
        }
    }

    /// Reads both outputs to their end and waits for it.
    pub async fn output(&self) -> Result<Output> {
        let (stdout, stderr, code) =
            tokio::try_join!(self.stdout().read_bytes(), self.stderr().read_bytes(), self.wait())?;
        Ok(Output { code, stdout, stderr })
    }

    fn failed(&self, failure: RouterFailure, rpc: &'static str, operation: Operation) -> Error {
        match failure.into_error(rpc, operation) {
            Error::NotFound { operation, source } => self.router.gone(operation, source),
            error => error,
        }
    }

    fn operation(&self, verb: &'static str) -> Operation {
        Operation::new(verb, format!("sandbox `{}`", self.router.sandbox()))
    }
}

fn code_of_wait(status: router_api::task_exec_wait_response::ExitStatus) -> i32 {
    use router_api::task_exec_wait_response::ExitStatus;
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    }
}

fn code_of_poll(status: router_api::task_exec_poll_response::ExitStatus) -> i32 {
    use router_api::task_exec_poll_response::ExitStatus;
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    }
}

pub(crate) fn wait_request(task_id: String, exec: &str) -> router_api::TaskExecWaitRequest {
    router_api::TaskExecWaitRequest { task_id, exec_id: exec.to_owned() }
}

pub(crate) fn start_request(
    task_id: String,
    exec_id: String,
    spec: &ExecSpec,
) -> router_api::TaskExecStartRequest {
    let stdout = match spec.stdout {
        Redirect::Pipe => router_api::TaskExecStdoutConfig::Pipe,
        Redirect::Null => router_api::TaskExecStdoutConfig::Devnull,
    };
    let stderr = match spec.stderr {
        Redirect::Pipe => router_api::TaskExecStderrConfig::Pipe,
        Redirect::Null => router_api::TaskExecStderrConfig::Devnull,
    };
    router_api::TaskExecStartRequest {
        task_id,
        exec_id,
        command_args: spec.command.clone(),
        stdout_config: stdout.into(),
        stderr_config: stderr.into(),
        timeout_secs: spec.timeout.map(|timeout| seconds(timeout).max(1)),
        workdir: spec.workdir.clone(),
        pty_info: spec.pty.as_ref().map(pty_info),
        secret_sources: secret_sources(&spec.secrets, &spec.env),
        ..Default::default()
    }
}

pub(super) fn pty_info(pty: &Pty) -> api::PtyInfo {
    api::PtyInfo {
        enabled: true,
        winsz_rows: pty.rows.into(),
        winsz_cols: pty.columns.into(),
        env_term: pty.term.clone(),
        pty_type: api::pty_info::PtyType::Shell.into(),
        no_terminate_on_idle_stdin: true,
        ..Default::default()
    }
}
