//! What a killed server may not leave on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::load::SLEEP;

/// How long the kernel may take to end what ran.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often we look.
const POLL: Duration = Duration::from_millis(20);

/// Waits until a process and all programs of its sandboxes are gone.
pub(super) async fn wait_for_end(server: i32) -> anyhow::Result<()> {
    eventually("the killed server still runs", || Ok(!is_running(server))).await?;
    eventually("programs of its sandboxes still run", || Ok(programs()? == 0)).await
}

/// Looks for what is left of every server but `server`.
pub(super) async fn check(state: &Path, server: i32) -> anyhow::Result<()> {
    ensure!(programs()? == 0, "programs of dead sandboxes run");
    eventually("control groups of dead servers are left", || Ok(groups(server).is_empty())).await?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    let state_text = state.display().to_string();
    ensure!(!mounts.contains(&state_text), "mounts of dead servers are left");
    for directory in ["sandboxes", "tmp", "images/scratch"] {
        let path = state.join(directory);
        let what = format!("`{}` is not empty", path.display());
        eventually(&what, || Ok(fs::read_dir(&path)?.next().is_none())).await?;
    }
    let instances = state.join("runtime/instances");
    let what = format!("`{}` has more than the one instance", instances.display());
    eventually(&what, || {
        let own = format!("-{server}-");
        let is_others = |name: &str| name.starts_with("goat-") && !name.contains(&own);
        let mut names = fs::read_dir(&instances)?.flatten().map(|it| it.file_name());
        Ok(!names.any(|it| is_others(&it.to_string_lossy())))
    })
    .await
}

async fn eventually(
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < until, "{what}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !(stat.is_empty() || stat.contains(") Z "))
}

/// How many programs of the load run on this machine, whoever started them.
fn programs() -> anyhow::Result<usize> {
    let wanted = format!("sleep\0{SLEEP}\0").into_bytes();
    let processes = fs::read_dir("/proc").context("can't read the processes")?.flatten();
    let commands = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    Ok(commands.filter(|command| *command == wanted).count())
}

/// Control groups of servers that run no more.
fn groups(server: i32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            // `goat-<boot>-<pid>-<start>-<n>`
            let owner =
                name.strip_prefix("goat-").and_then(|it| it.split('-').nth(1)?.parse().ok());
            match owner {
                Some(pid) if pid != server && !is_running(pid) => found.push(entry.path()),
                Some(_) => {}
                None => pending.push(entry.path()),
            }
        }
    }
    found
}
