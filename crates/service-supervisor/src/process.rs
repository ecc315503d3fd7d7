//! One program that the supervisor started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use secret_string::SecretString;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::{Stop, StopSignal};
use crate::user::User;

/// The command of this program that starts another in its place: `launch PARENT -- PROGRAM ARGUMENT…`.
pub(crate) const LAUNCH: &str = "launch";
/// What it ends with where it can't, as shells do.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Becomes `program`, which the system kills as soon as the process `parent` ends. Answers only if it can't.
pub fn launch(parent: u32, program: &OsStr, arguments: &[OsString]) -> u8 {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprint(format_args!("can't be bound to its supervisor: {error}"));
        return NOT_STARTED;
    }
    // It may have ended before we were bound to it.
    let alive = rustix::process::getppid().map(|id| id.as_raw_nonzero().get().unsigned_abs());
    if alive != Some(parent) {
        return NOT_STARTED;
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    eprint(format_args!("can't start `{}`: {error}", program.display()));
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED }
}

fn eprint(words: std::fmt::Arguments<'_>) {
    // Nobody is left to be told that there is no standard error.
    let _ = writeln!(io::stderr(), "{words}");
}

/// How a service's programs are started: all of them alike.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) service: String,
    pub(crate) env: BTreeMap<String, SecretString>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) user: Option<User>,
    pub(crate) log: Log,
    /// The program that [`launch`](crate::launch)es the others.
    pub(crate) launcher: PathBuf,
}

/// A running program, the leader of its own process group.
pub(crate) struct Process {
    service: String,
    child: Child,
    group: Option<Pid>,
    followers: Vec<JoinHandle<()>>,
}

impl Launch {
    /// Starts a program, its output followed.
    pub(crate) fn start(&self, command: &[String]) -> Result<Process> {
        self.spawn(command, Stdio::piped)
    }

    /// Starts a program whose output nobody wants: a look at a service, many times a minute.
    pub(crate) fn start_quietly(&self, command: &[String]) -> Result<Process> {
        self.spawn(command, Stdio::null)
    }

    fn spawn(&self, command: &[String], output: fn() -> Stdio) -> Result<Process> {
        let (program, arguments) = command.split_first().ok_or_else(|| {
            Error::Plan(format!("service `{}` has an empty command", self.service))
        })?;
        // By way of this program itself, which sees to it that nothing outlives a supervisor that is killed.
        let mut spawned = Command::new(&self.launcher);
        spawned.arg(LAUNCH).arg(std::process::id().to_string()).arg("--").arg(program);
        spawned.args(arguments).env_clear().stdin(Stdio::null()).process_group(0);
        spawned.stdout(output()).stderr(output()).kill_on_drop(true);
        spawned.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(directory) = &self.directory {
            spawned.current_dir(directory);
        }
        if let Some(User { uid, gid }) = self.user {
            spawned.uid(uid).gid(gid);
        }
        let mut child = spawned.spawn().map_err(|source| Error::Start {
            service: self.service.clone(),
            program: program.clone(),
            source,
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let stdout = child.stdout.take().map(|output| self.follow(output));
        let stderr = child.stderr.take().map(|output| self.follow(output));
        let followers = stdout.into_iter().chain(stderr).collect();
        Ok(Process { service: self.service.clone(), child, group, followers })
    }

    fn follow(&self, output: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.log.clone().follow(self.service.clone(), output))
    }
}

impl Process {
    /// The name of its service.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Waits until it ends and all that it wrote is in the log. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        let ended = self.child.wait().await;
        self.last_words().await;
        ended.map_err(|source| Error::Wait { service: self.service.clone(), source })
    }

    /// Asks it to end, and kills its group when that takes too long. Answers whether it had to.
    pub(crate) async fn stop(&mut self, stop: &Stop) -> bool {
        let signal = match stop.signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
        };
        if let (Some(pid), true) = (self.group, self.is_running()) {
            // It may have ended just now: then there is nobody to tell.
            let _ = rustix::process::kill_process(pid, signal);
        }
        let ended = tokio::time::timeout(stop.within, self.child.wait()).await;
        self.kill_group();
        if ended.is_err() {
            // Killed: this is a matter of moments.
            let _ = self.child.wait().await;
        }
        self.last_words().await;
        ended.is_err()
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends what it left behind in its group, itself included.
    fn kill_group(&self) {
        if let Some(group) = self.group {
            // There may be nobody left.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits until its output is copied; a process that left the group may hold it open for ever.
    async fn last_words(&mut self) {
        const LIMIT: Duration = Duration::from_secs(1);
        while let Some(follower) = self.followers.last_mut() {
            if tokio::time::timeout(LIMIT, &mut *follower).await.is_err() {
                follower.abort();
            }
            self.followers.pop();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without this, dropping would end the first process alone. A group whose leader was waited for
        // may be another's by now, unless a member holds its number.
        if self.is_running() {
            self.kill_group();
        }
    }
}
