//! Starts the program with a plan and listens to what it says.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Longer than anything here takes, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The program at work.
pub(crate) struct Supervisor {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// All that it said so far.
    pub(crate) said: Vec<String>,
    pub(crate) directory: TempDir,
    _program: Program,
}

/// The program where every user can run it: services may be other users', and a home directory is often closed to them.
struct Program {
    path: PathBuf,
    _copy: Option<TempDir>,
}

impl Program {
    fn find() -> Self {
        let built = Path::new(env!("CARGO_BIN_EXE_service-supervisor"));
        let is_open = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o1 == 1;
        if built.ancestors().all(is_open) {
            return Self { path: built.to_owned(), _copy: None };
        }
        let open = Permissions::from_mode(0o755);
        let copy = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        let path = copy.path().join("service-supervisor");
        std::fs::copy(built, &path).unwrap();
        Self { path, _copy: Some(copy) }
    }
}

/// A service that is a shell script, ready at once. `$DIR` is the test's directory.
pub(crate) fn script(name: &str, text: &str) -> Value {
    json!({
        "name": name,
        "command": ["/bin/sh", "-c", text],
        "env": { "DIR": { "from": "DIR" } },
        "health": "started",
        "ready_within": 30,
    })
}

/// A service that does nothing until it is told to end.
pub(crate) fn idle() -> Value {
    script("idle", "exec sleep 1000")
}

impl Supervisor {
    pub(crate) fn start(plan: &Value, env: &[(&str, &str)]) -> Self {
        Self::start_with(plan, env, |_| {})
    }

    /// With files that are there before it starts.
    pub(crate) fn start_with(
        plan: &Value,
        env: &[(&str, &str)],
        prepare: impl FnOnce(&std::path::Path),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let path = directory.path().join("plan.json");
        std::fs::write(&path, plan.to_string()).unwrap();
        let program = Program::find();
        let mut child = Command::new(&program.path)
            .arg("run")
            .arg(&path)
            .env("DIR", directory.path())
            .current_dir(directory.path())
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: Vec::new(), directory, _program: program }
    }

    /// The first line that holds `text`, waited for if it was not said yet.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        if let Some(line) = self.said.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                panic!("`{text}` was never said, but:\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// As [`Supervisor::line`], of what is said after the first `known` lines.
    pub(crate) async fn line_after(&mut self, known: usize, text: &str) -> String {
        loop {
            if let Some(line) = self.said[known..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                panic!("`{text}` was not said again, but:\n{}", self.said.join("\n"));
            };
            self.said.push(line);
        }
    }

    /// Waits until it is gone, after it was killed.
    pub(crate) async fn gone(&mut self) {
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap();
    }

    /// Where a door listens.
    pub(crate) async fn door(&mut self) -> SocketAddr {
        let line = self.line("is open at").await;
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().unwrap().try_into().unwrap();
        rustix::process::kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end and answers the exit code.
    pub(crate) async fn end(&mut self) -> i32 {
        while let Ok(Ok(Some(line))) = tokio::time::timeout(LIMIT, self.lines.next_line()).await {
            self.said.push(line);
        }
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().code().unwrap()
    }

    /// All that it said, the test's own paths and times apart.
    pub(crate) fn text(&self) -> String {
        let directory = self.directory.path().display().to_string();
        let text = self.said.join("\n").replace(&directory, "DIR");
        let words = text.split(' ').map(|word| match word.parse::<f64>() {
            Ok(_) if word.contains('.') => "N",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.directory.path().join(name).exists()
    }
}

/// Whether a process of that number runs.
pub(crate) fn is_alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
