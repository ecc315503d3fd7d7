//! The processes of a run: how they are started, and that none is left at its end.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Signal, WaitOptions, waitpid};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{capture::Capture, descendants};
use crate::tool::ToolError;

/// Time that processes get to end by themselves.
const GRACE: Duration = Duration::from_millis(300);
/// Time after which processes that can't be ended (stuck in the kernel) are given up.
const LONGEST_STOP: Duration = Duration::from_millis(1_000);

/// Keeps programs from asking, from paging, and from waiting for a password.
const QUIET: [(&str, &str); 4] =
    [("PAGER", "cat"), ("GIT_PAGER", "cat"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_EDITOR", "true")];

/// Everything that tools have started.
///
/// Who starts a process that outlives its parent (`daemon`, `setsid`, `nohup … &`) does not escape: this process
/// adopts it ([`crate::hardening::adopt_orphans`]), so it is found as a descendant.
#[derive(Debug, Default)]
pub struct Processes {
    environment: Vec<(OsString, OsString)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Commands that are waited for elsewhere.
    waited: HashSet<u32>,
    logs: Option<TempDir>,
    next_log: u32,
}

impl Processes {
    /// Commands will get this environment and nothing else.
    pub fn new(environment: Vec<(OsString, OsString)>) -> Self {
        Processes { environment, state: Mutex::default() }
    }

    /// Starts a command in a process group of its own, with both outputs into `capture`.
    pub(super) fn start(
        &self,
        command: &str,
        cwd: &Path,
        capture: Capture,
    ) -> Result<(Child, Capture), ToolError> {
        let failed = |what| {
            move |error: std::io::Error| ToolError::Failed(format!("cannot {what}: {error}"))
        };
        let (reader, writer) = std::io::pipe().map_err(failed("make a pipe"))?;
        let second = writer.try_clone().map_err(failed("make a pipe"))?;
        let mut process = Command::new(self.shell());
        process.arg("-c").arg(command).current_dir(cwd).process_group(0);
        process.env_clear().envs(QUIET).envs(self.environment.iter().cloned());
        process.stdin(Stdio::null()).stdout(writer).stderr(second);
        let child = process.spawn().map_err(failed("start a shell"))?;
        // The ends for writing are closed here with `process`, so that the output ends with the command.
        drop(process);
        self.lock().waited.extend(child.id());
        capture.fill_from(reader).map_err(failed("read the output"))?;
        Ok((child, capture))
    }

    /// Starts a program that serves: with both ends of a conversation, in a process group of its own, and with
    /// variables besides those that commands get.
    pub(crate) fn serve<'a>(
        &self,
        program: &str,
        args: impl Iterator<Item = &'a str>,
        env: impl Iterator<Item = (&'a str, &'a str)>,
        cwd: Option<&Path>,
    ) -> std::io::Result<Child> {
        let mut process = Command::new(program);
        process.args(args).env_clear().envs(self.environment.iter().cloned()).envs(env);
        process.process_group(0);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = cwd {
            process.current_dir(cwd);
        }
        let child = process.spawn()?;
        self.lock().waited.extend(child.id());
        Ok(child)
    }

    /// `bash` where the image has it, else `sh`.
    fn shell(&self) -> PathBuf {
        let path = self
            .environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value.clone());
        let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let places = std::env::split_paths(&path).map(|directory| directory.join("bash"));
        places
            .chain(["/bin/bash".into()])
            .find(|bash| bash.is_file())
            .unwrap_or_else(|| "/bin/sh".into())
    }

    /// A new file for the output of a background command. It goes with the run.
    pub(super) fn new_log(&self) -> Result<(File, PathBuf), ToolError> {
        let mut state = self.lock();
        let failed = |error: std::io::Error| {
            ToolError::Failed(format!(
                "cannot make a file for the output: {error}; redirect it yourself"
            ))
        };
        if state.logs.is_none() {
            state.logs =
                Some(tempfile::Builder::new().prefix("goat-eval-").tempdir().map_err(failed)?);
        }
        state.next_log += 1;
        let name = format!("background-{}.log", state.next_log);
        let path = state.logs.as_ref().map(|logs| logs.path().join(name)).unwrap_or_default();
        Ok((File::create(&path).map_err(failed)?, path))
    }

    /// A command has been waited for.
    pub(crate) fn forget(&self, pid: Option<u32>) {
        if let Some(pid) = pid {
            self.lock().waited.remove(&pid);
        }
    }

    /// Takes leave of adopted processes that have ended, so that they do not pile up.
    pub(super) fn reap_orphans(&self) {
        let waited = self.lock().waited.clone();
        for pid in descendants::ended_children().into_iter().filter(|pid| !waited.contains(pid)) {
            let _ = waitpid(descendants::as_pid(pid), WaitOptions::NOHANG);
        }
    }

    /// Ends everything that tools have started, and removes the files of background commands. At most about a
    /// second; to be called once, when no tool runs any more.
    pub fn stop_all(&self) {
        let own = std::process::id();
        let start = Instant::now();
        let groups: Vec<u32> = self.lock().waited.iter().copied().collect();
        let mut signal = Signal::TERM;
        loop {
            for group in &groups {
                descendants::signal(*group, &[], signal);
            }
            while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
            let left: Vec<_> =
                descendants::of(own).into_iter().filter(|it| !it.is_zombie).collect();
            if left.is_empty() || start.elapsed() > LONGEST_STOP {
                break;
            }
            let pids: Vec<u32> = left.iter().map(|it| it.pid).collect();
            if signal == Signal::KILL || start.elapsed() < Duration::from_millis(5) {
                descendants::signal(0, &pids, signal);
            }
            if start.elapsed() > GRACE {
                signal = Signal::KILL;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Whoever ended since the last look.
        while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
        self.lock().logs = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
