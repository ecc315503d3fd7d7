//! One container's groups: its limits, what it used, its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::sys;
use super::detect::Groups;
use crate::spec::{ContainerId, Limits, Usage};

/// The period in which a CPU quota is given, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// How long a group may stay busy after its processes are gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// A container's groups.
#[derive(Debug, Clone)]
pub(crate) struct ContainerGroup {
    unified: Option<PathBuf>,
    unified_limits: bool,
    v1: Vec<(&'static str, PathBuf)>,
}

impl ContainerGroup {
    pub(super) fn create(groups: &Groups, id: &ContainerId, limits: &Limits) -> io::Result<Self> {
        let below = |group: &PathBuf| group.join(id.as_str());
        let group = Self {
            unified: groups.unified.as_ref().map(below),
            unified_limits: groups.unified_limits,
            v1: groups.v1.iter().map(|(controller, group)| (*controller, below(group))).collect(),
        };
        let made =
            group.directories().try_for_each(fs::create_dir).and_then(|()| group.limit(limits));
        if let Err(error) = made {
            // The first error is the one to tell.
            let _best_effort = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().map(|(_, directory)| directory).chain(&self.unified)
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let quota = limits.cpu.map(|cores| ((cores * CPU_PERIOD as f64) as u64).max(1_000));
        if let (Some(group), true) = (&self.unified, self.unified_limits) {
            if let Some(bytes) = limits.memory {
                fs::write(group.join("memory.max"), bytes.to_string())?;
                optional(fs::write(group.join("memory.swap.max"), "0"))?;
            }
            if let Some(quota) = quota {
                optional(fs::write(group.join("cpu.max"), format!("{quota} {CPU_PERIOD}")))?;
            }
            if let Some(count) = limits.pids {
                fs::write(group.join("pids.max"), count.to_string())?;
            }
        }
        if let (Some(group), Some(bytes)) = (self.v1("memory"), limits.memory) {
            fs::write(group.join("memory.limit_in_bytes"), bytes.to_string())?;
            optional(fs::write(group.join("memory.memsw.limit_in_bytes"), bytes.to_string()))?;
        }
        if let (Some(group), Some(count)) = (self.v1("pids"), limits.pids) {
            fs::write(group.join("pids.max"), count.to_string())?;
        }
        if let (Some(group), Some(quota)) = (self.v1("cpu"), quota) {
            fs::write(group.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())?;
            fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
        }
        Ok(())
    }

    fn v1(&self, wanted: &str) -> Option<&Path> {
        let found = self.v1.iter().find(|(controller, _)| *controller == wanted);
        found.map(|(_, group)| group.as_path())
    }

    fn limiting(&self) -> Option<&Path> {
        self.unified.as_deref().filter(|_| self.unified_limits)
    }

    /// The files through which init joins.
    pub(crate) fn procs(&self) -> Vec<PathBuf> {
        self.directories().map(|group| group.join("cgroup.procs")).collect()
    }

    /// Where init makes a group for each exec.
    pub(crate) fn exec_groups(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// How many processes the kernel has killed here for lack of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let (file, key) = match (self.limiting(), self.v1("memory")) {
            (Some(group), _) => (group.join("memory.events"), "oom_kill"),
            (None, Some(group)) => (group.join("memory.oom_control"), "oom_kill"),
            (None, None) => return 0,
        };
        fs::read_to_string(file).ok().and_then(|text| keyed(&text, key)).unwrap_or(0)
    }

    /// What the container has used.
    pub(crate) fn usage(&self) -> Usage {
        if let Some(group) = self.limiting() {
            let cpu = fs::read_to_string(group.join("cpu.stat")).ok();
            return Usage {
                cpu: cpu.and_then(|text| keyed(&text, "usage_usec")).map(Duration::from_micros),
                memory: number(&group.join("memory.current")),
                memory_peak: number(&group.join("memory.peak")),
                pids: number(&group.join("pids.current")),
            };
        }
        let read = |controller, file: &str| number(&self.v1(controller)?.join(file));
        Usage {
            cpu: read("cpuacct", "cpuacct.usage").map(Duration::from_nanos),
            memory: read("memory", "memory.usage_in_bytes"),
            memory_peak: read("memory", "memory.max_usage_in_bytes"),
            pids: read("pids", "pids.current"),
        }
    }

    /// Removes the groups, with whatever is still in them. Blocks while they are busy, a few seconds at most.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.directories().try_for_each(|group| remove_group(group))
    }
}

/// A file this kernel may not have.
fn optional(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Opening a missing file of a control group for writing means making it, which is not permitted.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key` at the start of a line.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.parse().ok())
}

/// Kills everything in a group and below it, and removes it. A missing group is no error.
pub(crate) fn remove_group(group: &Path) -> io::Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match remove_directories(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            // Only a group with members is busy; most have none left, and are not searched for any.
            Err(_busy) => kill_members(group),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn kill_members(group: &Path) {
    if fs::write(group.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for child in children(group) {
        kill_members(&child);
    }
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1) {
        let _already_dead = sys::kill(pid, libc::SIGKILL);
    }
}

/// The groups in a group.
pub(crate) fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter_map(Result::ok).filter(is_directory).map(|entry| entry.path()).collect()
}

fn remove_directories(group: &Path) -> io::Result<()> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {}
        done => return done,
    }
    for child in children(group) {
        remove_directories(&child)?;
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }
}
