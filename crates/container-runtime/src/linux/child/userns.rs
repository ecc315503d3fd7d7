//! User namespaces: made by a throw-away child, so that init can hold one without being in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use super::super::message::Ids;
use super::super::sys::{self, Fork};

/// Ids in one container's range.
pub(super) const RANGE: u32 = 65_536;

/// A user namespace in which 0 to 65535 are `base` and the following outside.
pub(super) fn make(base: u32) -> io::Result<OwnedFd> {
    // SAFETY: the spawner has one thread, and the child calls nothing that uses its thread id.
    let (pid, pidfd) = match unsafe { sys::clone_into(libc::CLONE_NEWUSER) }? {
        Fork::Child => wait_for_death(),
        Fork::Parent(child) => child,
    };
    let made = write_maps(pid, base, RANGE)
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from));
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
    sys::wait_for(pid)?;
    made
}

fn wait_for_death() -> ! {
    let signal = rustix::process::Signal::KILL;
    if rustix::process::set_parent_process_death_signal(Some(signal)).is_err() {
        sys::exit_now(1);
    }
    loop {
        std::thread::park();
    }
}

/// Maps `count` ids from 0 on to `base` and the following.
fn write_maps(pid: i32, base: u32, count: u32) -> io::Result<()> {
    let line = format!("0 {base} {count}");
    fs::write(format!("/proc/{pid}/uid_map"), &line)?;
    fs::write(format!("/proc/{pid}/gid_map"), &line)
}

/// Makes the user namespace that `pid` was born in usable: root inside is the caller outside.
pub(super) fn map_caller(pid: i32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1"))
}

/// What an init inherits of user namespaces from the spawner.
#[derive(Debug)]
pub(super) enum Users {
    /// A namespace that programs join and init does not.
    Apart(OwnedFd),
    /// Init was born in the programs' namespace.
    Shared,
}

impl Users {
    /// The one that [`Ids`] ask for.
    pub(super) fn prepare(ids: Ids) -> io::Result<Self> {
        match ids {
            Ids::Range(base) => make(base).map(Self::Apart),
            Ids::Caller => Ok(Self::Shared),
        }
    }
}
