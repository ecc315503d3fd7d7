//! The processes of a run: how they are started, and that none is left at its end.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::File,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Signal, WaitOptions, waitpid};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use super::{capture::Capture, descendants};
use crate::tool::ToolError;

/// Time that processes get to end by themselves.
const GRACE: Duration = Duration::from_millis(300);
/// Time after which processes that can't be ended (stuck in the kernel) are given up.
pub(crate) const LONGEST_STOP: Duration = Duration::from_millis(1_000);

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

/// A background command.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pid: u32,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// Bytes of the output that the model has seen.
    pub(super) read: u64,
    /// How it ended, once it has.
    status: watch::Receiver<Option<String>>,
}

impl Job {
    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<String> {
        self.status.borrow().clone()
    }

    /// Asks the command and everything it started to end, then makes it; true if it is still there.
    pub(super) async fn end(mut self, grace: Duration) -> bool {
        let tree = descendants::tree_of(self.pid);
        for signal in [Signal::TERM, Signal::KILL] {
            descendants::signal(self.pid, &tree, signal);
            let ended = self.status.wait_for(Option::is_some);
            if tokio::time::timeout(grace, ended).await.is_ok() && signal == Signal::KILL {
                return false;
            }
        }
        true
    }
}

#[derive(Debug, Default)]
struct State {
    /// Commands that are waited for elsewhere.
    waited: HashSet<u32>,
    logs: Option<TempDir>,
    next_file: u32,
    /// Background commands; `bash_1` is the first.
    jobs: Vec<Job>,
    /// Where the next command starts, if not where the run does.
    cwd: Option<PathBuf>,
}

impl Processes {
    /// Commands will get this environment and nothing else.
    pub fn new(environment: Vec<(OsString, OsString)>) -> Self {
        Processes { environment, state: Mutex::default() }
    }

    /// Starts a command in a process group of its own, with both outputs into `capture`.
    ///
    /// With `leave`, the directory that the shell is in at its end is written to that file.
    pub(super) fn start(
        &self,
        command: &str,
        cwd: &Path,
        leave: Option<&Path>,
        capture: Capture,
    ) -> Result<(Child, Capture), ToolError> {
        let failed = |what| {
            move |error: std::io::Error| ToolError::Failed(format!("cannot {what}: {error}"))
        };
        let (reader, writer) = std::io::pipe().map_err(failed("make a pipe"))?;
        let second = writer.try_clone().map_err(failed("make a pipe"))?;
        let mut process = Command::new(self.shell());
        process.arg("-c").arg(with_farewell(command, leave)).current_dir(cwd).process_group(0);
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

    /// Where the next command starts: where the last one left off, as long as that exists.
    pub(super) fn cwd(&self, start: &Path) -> PathBuf {
        let left = self.lock().cwd.clone();
        left.filter(|it| it.is_dir()).unwrap_or_else(|| start.to_owned())
    }

    /// Takes over the directory in which a command left its shell; returns it if it is another one.
    pub(super) fn take_cwd(&self, before: &Path, file: &Path) -> Option<PathBuf> {
        let left = std::fs::read(file).ok()?;
        let _ = std::fs::remove_file(file);
        let left = PathBuf::from(OsString::from_vec(left.strip_suffix(b"\n")?.to_owned()));
        if !left.is_absolute() || left == before || !left.is_dir() {
            return None;
        }
        self.lock().cwd = Some(left.clone());
        Some(left)
    }

    /// Counts a command as one of the background; its id, and where its end is to be told.
    pub(super) fn add_job(
        &self,
        pid: u32,
        log: PathBuf,
    ) -> (String, watch::Sender<Option<String>>) {
        let (told, status) = watch::channel(None);
        let mut state = self.lock();
        state.jobs.push(Job { pid, log, read: 0, status });
        (format!("bash_{}", state.jobs.len()), told)
    }

    /// A background command, or a sentence with those that there are.
    pub(super) fn job(&self, id: &str) -> Result<Job, ToolError> {
        let state = self.lock();
        let at = id.trim().strip_prefix("bash_").and_then(|it| it.parse::<usize>().ok());
        let job = at.and_then(|at| state.jobs.get(at.checked_sub(1)?));
        job.cloned().ok_or_else(|| {
            let known: Vec<String> =
                (1..=state.jobs.len()).map(|it| format!("bash_{it}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            ToolError::Failed(format!("there is no background command `{id}`; there are: {known}"))
        })
    }

    /// The model has seen a job's output up to here.
    pub(super) fn have_read(&self, id: &str, end: u64) {
        let at = id.trim().strip_prefix("bash_").and_then(|it| it.parse::<usize>().ok());
        let mut state = self.lock();
        if let Some(job) = at.and_then(|at| state.jobs.get_mut(at.checked_sub(1)?)) {
            job.read = end;
        }
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
        let failed = |error: std::io::Error| {
            ToolError::Failed(format!(
                "cannot make a file for the output: {error}; redirect it yourself"
            ))
        };
        let path = self.new_path("background", "log").map_err(failed)?;
        Ok((File::create(&path).map_err(failed)?, path))
    }

    /// A path for a file of the run's own.
    pub(super) fn new_path(&self, name: &str, extension: &str) -> std::io::Result<PathBuf> {
        let mut state = self.lock();
        if state.logs.is_none() {
            state.logs = Some(tempfile::Builder::new().prefix("goat-eval-").tempdir()?);
        }
        state.next_file += 1;
        let name = format!("{name}-{}.{extension}", state.next_file);
        Ok(state.logs.as_ref().map(|logs| logs.path().join(name)).unwrap_or_default())
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
        self.end_all(GRACE, LONGEST_STOP);
    }

    /// The same without asking first, and in less time: for a run that hangs and has to end.
    pub fn kill_all(&self) {
        self.end_all(Duration::ZERO, GRACE);
    }

    fn end_all(&self, grace: Duration, longest: Duration) {
        let own = std::process::id();
        let start = Instant::now();
        let groups: Vec<u32> = self.lock().waited.iter().copied().collect();
        let mut signal = if grace.is_zero() { Signal::KILL } else { Signal::TERM };
        loop {
            for group in &groups {
                descendants::signal(*group, &[], signal);
            }
            while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
            let left: Vec<_> =
                descendants::of(own).into_iter().filter(|it| !it.is_zombie).collect();
            if left.is_empty() || start.elapsed() > longest {
                break;
            }
            let pids: Vec<u32> = left.iter().map(|it| it.pid).collect();
            if signal == Signal::KILL || start.elapsed() < Duration::from_millis(5) {
                descendants::signal(0, &pids, signal);
            }
            if start.elapsed() > grace {
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

/// The command as it is given to the shell: before it, on the same line so that errors name the right one, what the
/// shell does at its end. A command that sets its own trap or becomes another program leaves no directory.
fn with_farewell(command: &str, leave: Option<&Path>) -> OsString {
    let Some(leave) = leave else { return command.into() };
    let mut text = OsString::from("trap 'pwd -P 2>/dev/null >");
    // Quoted for the command of the trap, which is quoted itself.
    let quoted: Vec<u8> = leave
        .as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"/._-".contains(b) => vec![*b],
            b'\'' => b"\\\\'\\''".to_vec(),
            b => vec![b'\\', *b],
        })
        .collect();
    text.push(OsString::from_vec(quoted));
    text.push("' EXIT; ");
    text.push(command);
    text
}
