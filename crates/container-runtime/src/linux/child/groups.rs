//! A control group for each exec, so that a program and all it started can be killed together.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};

/// The container's own group, held by descriptor because its path is not visible inside.
#[derive(Debug, Default)]
pub(super) struct ExecGroups {
    directory: Option<OwnedFd>,
    ended: HashSet<u64>,
}

impl ExecGroups {
    /// Groups below this directory of a version 2 hierarchy, or none.
    pub(super) fn open(directory: Option<&Path>) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
        Ok(Self { directory: directory.map(open).transpose()?, ended: HashSet::new() })
    }

    /// A new group for this exec; `None` where there are none.
    pub(super) fn make(&self, exec: u64) -> io::Result<Option<OwnedFd>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let name = name(exec);
        mkdirat(directory, &name, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Some(openat(directory, &name, flags, Mode::empty())?))
    }

    /// Kills everything in the group; `false` where there is none.
    pub(super) fn kill(&self, exec: u64) -> io::Result<bool> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let file = format!("{}/cgroup.kill", name(exec));
        let kill = openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        match kill {
            Ok(kill) => Ok(rustix::io::write(kill, b"1").map(|_| true)?),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The exec's own program has ended; its group goes as soon as it is empty.
    pub(super) fn ended(&mut self, exec: u64) {
        if self.directory.is_some() {
            self.ended.insert(exec);
            self.sweep();
        }
    }

    /// Removes the groups of ended execs in which nothing runs any more.
    pub(super) fn sweep(&mut self) {
        let Some(directory) = &self.directory else { return };
        self.ended.retain(|exec| {
            unlinkat(directory, name(*exec), AtFlags::REMOVEDIR) == Err(rustix::io::Errno::BUSY)
        });
    }
}

fn name(exec: u64) -> String {
    format!("exec-{exec}")
}

/// Moves the calling process into a group.
pub(super) fn join(group: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = openat(group.as_fd(), "cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(procs, b"0")?;
    Ok(())
}
