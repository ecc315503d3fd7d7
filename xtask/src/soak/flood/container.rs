//! A container as a process of this machine: the supervisor with a plan, a disk and what outlives it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::PATIENCE;

/// How often we look.
const POLL: std::time::Duration = std::time::Duration::from_millis(50);
/// In a plan: where its container's disk is.
pub(super) const DISK: &str = "/var/lib/goat";

/// One after the other, containers of a function.
pub(super) struct Container {
    name: &'static str,
    /// The plan, with [`DISK`] for the disk.
    plan: String,
    supervisor: PathBuf,
    variables: Vec<(String, String)>,
    home: PathBuf,
    lives: u32,
    process: Option<Child>,
}

impl Container {
    pub(super) fn new(
        name: &'static str,
        plan: String,
        supervisor: &Path,
        variables: Vec<(String, String)>,
        home: PathBuf,
    ) -> Self {
        let supervisor = supervisor.to_owned();
        Self { name, plan, supervisor, variables, home, lives: 0, process: None }
    }

    /// Starts the next one, on an empty disk, and waits until its door is open.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.lives += 1;
        let disk = self.disk();
        fs::create_dir_all(&disk)?;
        fs::set_permissions(&disk, fs::Permissions::from_mode(0o755))?;
        let plan = disk.join("plan.json");
        fs::write(&plan, self.plan.replace(DISK, &disk.display().to_string()))?;
        let log = fs::File::create(self.log())?;
        let mut command = Command::new(&self.supervisor);
        command.arg("run").arg(&plan).current_dir(&disk).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.process = Some(command.spawn().context("the supervisor can't be started")?);
        let began = Instant::now();
        while !self.said().contains("-door is open at") {
            let process = self.process.as_mut().context("it was started")?;
            if let Some(status) = process.try_wait()? {
                anyhow::bail!("{} ended with {status} before it was ready", self.name);
            }
            ensure!(began.elapsed() < PATIENCE, "{} did not get ready", self.name);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Kills a program in it and waits until the supervisor has ended all of it.
    pub(super) async fn kill(&mut self, pid: i32) -> anyhow::Result<()> {
        signal(pid, Signal::KILL)?;
        self.ended().await
    }

    /// Kills the supervisor itself.
    pub(super) async fn lose(&mut self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        self.kill(pid).await
    }

    /// Has it end as a container is told to, and answers whether it did so by itself.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        signal(self.pid()?, Signal::TERM)?;
        self.ended().await
    }

    /// The supervisor's process.
    pub(super) fn pid(&self) -> anyhow::Result<i32> {
        let pid = self.process.as_ref().and_then(Child::id);
        Ok(pid.with_context(|| format!("{} does not run", self.name))?.try_into()?)
    }

    /// A program of the running one, by a word of its command line.
    pub(super) fn program(&self, word: &str) -> anyhow::Result<i32> {
        let pid = self.pid()?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        // The supervisor has several threads, any of which may be the parent.
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
        let others = tasks.flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        });
        let is_it = |child: &String| {
            let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let first = command.split(|byte| *byte == 0).next().unwrap_or_default().to_owned();
            String::from_utf8_lossy(&first).ends_with(word)
        };
        let found = children.into_iter().chain(others).find(is_it);
        let found = found.with_context(|| format!("no `{word}` runs in {}", self.name))?;
        Ok(found.parse()?)
    }

    /// All that the last one said.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn disk(&self) -> PathBuf {
        self.home.join(format!("{}-disk-{}", self.name, self.lives))
    }

    fn log(&self) -> PathBuf {
        self.home.join(format!("{}-{}.log", self.name, self.lives))
    }

    async fn ended(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().with_context(|| format!("no {} runs", self.name))?;
        let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
        ended.with_context(|| format!("{} did not end", self.name))??;
        Ok(())
    }
}

fn signal(pid: i32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid).context("no process has that number")?;
    Ok(kill_process(pid, signal)?)
}
