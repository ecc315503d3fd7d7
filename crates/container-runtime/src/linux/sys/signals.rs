//! Signals as descriptors, and back to their defaults before a program starts.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;

use super::check;

fn empty_set() -> libc::sigset_t {
    // SAFETY: `sigset_t` is plain data; `sigemptyset` then makes it the empty set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

/// Blocks SIGCHLD and gives a descriptor that is readable when one is pending.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    // SAFETY: the set is initialised and outlives the calls; the descriptor returned is fresh and owned by nobody else.
    unsafe {
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()).into())?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Every signal back to its default and none blocked, as a new program expects.
pub(crate) fn default_signals() {
    let set = empty_set();
    for signal in 1..=64 {
        // SAFETY: setting the default action installs no handler; failures (SIGKILL, SIGSTOP) do not matter.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised and outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
}

/// Signals a process by number, 0 to look only. Negative numbers mean groups, as for `kill(2)`.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }.into())?;
    Ok(())
}
