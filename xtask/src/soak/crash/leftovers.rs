//! What a killed server may not leave on the machine.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use modal_client::Client;

use super::load::SLEEP;

/// How long the kernel may take to end what ran.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often we look.
const POLL: Duration = Duration::from_millis(20);

/// Waits until a process and all programs of its sandboxes are gone.
pub(super) async fn wait_for_end(server: i32) -> anyhow::Result<()> {
    eventually("the killed server still runs", || Ok(!is_running(server))).await?;
    eventually("programs of its sandboxes still run", || Ok(programs()? == 0)).await
}

/// Looks for what is left of the `killed` servers beside `server`, whose client is `client`.
pub(super) async fn check(
    state: &Path,
    server: i32,
    killed: &[i32],
    client: &Client,
) -> anyhow::Result<()> {
    ensure!(programs()? == 0, "programs of dead sandboxes run");
    eventually("control groups of dead servers are left", || Ok(groups(killed).is_empty())).await?;
    let state_text = state.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    ensure!(!mounts.contains(&state_text), "mounts of dead servers are left");
    eventually("processes of dead servers keep their namespaces", || {
        Ok(strangers(&state_text, server)?.is_empty())
    })
    .await?;
    for directory in ["tmp", "images/scratch"] {
        let path = state.join(directory);
        let what = format!("`{}` is not empty", path.display());
        eventually(&what, || Ok(fs::read_dir(&path)?.next().is_none())).await?;
    }
    for volume in fs::read_dir(state.join("volumes"))? {
        let staging = volume?.path().join("staging");
        let what = format!("`{}` is not empty", staging.display());
        eventually(&what, || Ok(fs::read_dir(&staging)?.next().is_none())).await?;
    }
    directories_of_containers(state, client).await?;
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

/// Each directory belongs to a container that runs: the function's, which does what was acknowledged.
async fn directories_of_containers(state: &Path, client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let directories: HashSet<String> = fs::read_dir(state.join("sandboxes"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<anyhow::Result<_>>()?;
        let containers = client.containers().list(None).await?;
        let live: HashSet<String> = containers.iter().map(|it| it.id.to_string()).collect();
        let dead: Vec<&String> = directories.difference(&live).collect();
        if dead.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "directories of dead containers are left: {dead:?}");
        tokio::time::sleep(POLL).await;
    }
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

pub(super) fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !(stat.is_empty() || stat.contains(") Z "))
}

/// How many programs of the load run on this machine, whoever started them.
fn programs() -> anyhow::Result<usize> {
    let wanted = format!("sleep\0{SLEEP}\0").into_bytes();
    let commands = processes()?.into_iter();
    let commands = commands.filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    Ok(commands.filter(|command| *command == wanted).count())
}

/// Processes that have mounts of the state directory in view and are not below the server: each keeps
/// a mount namespace.
fn strangers(state: &str, server: i32) -> anyhow::Result<Vec<i32>> {
    let mounts = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/mountinfo"));
    let has_view = |pid: &i32| mounts(pid).is_ok_and(|mounts| mounts.contains(state));
    let inside = processes()?.into_iter().filter(has_view);
    Ok(inside.filter(|pid| is_running(*pid) && !is_below(*pid, server)).collect())
}

fn is_below(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fields after the name, which may hold anything: state, parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        let Some(parent) = parent.and_then(|parent| parent.parse().ok()) else { return false };
        pid = parent;
    }
    false
}

fn processes() -> anyhow::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("can't read the processes")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Control groups of these servers. Those of others on this machine are not our matter.
fn groups(killed: &[i32]) -> Vec<PathBuf> {
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
                Some(pid) if killed.contains(&pid) && !is_running(pid) => found.push(entry.path()),
                Some(_) => {}
                None => pending.push(entry.path()),
            }
        }
    }
    found
}
