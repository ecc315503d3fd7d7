//! Fork, clone, exec, seccomp.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use super::check;

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Fork<T> {
    Child,
    Parent(T),
}

/// `fork(2)`.
///
/// # Safety
/// The calling process has one thread, so that the child's memory is consistent.
pub(crate) unsafe fn fork() -> io::Result<Fork<i32>> {
    // SAFETY: one thread, says the caller.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// A child in new namespaces (`flags`: `CLONE_NEW*`), its pid and its pidfd.
///
/// # Safety
/// The calling process has one thread. libc does not notice the child: it must not rely on `pthread_self`'s thread id.
pub(crate) unsafe fn clone_into(flags: i32) -> io::Result<Fork<(i32, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: plain data, zeros are valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (flags | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has its own copy of memory, like fork; the structure has the size named.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Fork::Parent((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// Replaces the program. `argv` and `env` end with a null pointer.
///
/// # Safety
/// Every pointer but the last of both arrays points to a NUL-terminated string.
pub(crate) unsafe fn execve(
    path: &CStr,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> io::Result<Infallible> {
    // SAFETY: as promised by the caller.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Ends this process without running anything registered for exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
}

/// One dead child: its pid and raw status. `None` if none is dead (or there are none).
pub(crate) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the integer outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for one child of ours.
pub(crate) fn wait_for(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the integer outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Ok(_) => return Ok(status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a raw wait status means.
pub(crate) fn exit_of(status: i32) -> crate::spec::Exit {
    if libc::WIFSIGNALED(status) {
        crate::spec::Exit::Signal(libc::WTERMSIG(status))
    } else {
        crate::spec::Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Closes (or marks close-on-exec) every descriptor from `first` on.
///
/// # Safety
/// When closing: nothing in this process uses one of those descriptors again, and no owner of one is dropped.
pub(crate) unsafe fn close_from(first: u32, on_exec_only: bool) -> io::Result<()> {
    let flags = if on_exec_only { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: as promised by the caller.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) })?;
    Ok(())
}

/// Puts a seccomp filter in force for this thread; `no_new_privs` must be set.
pub(crate) fn load_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, whose length is as stated, during the call.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    })?;
    Ok(())
}

/// Leaves the session keyring that came from outside.
pub(crate) fn join_new_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let unnamed = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an unnamed keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, unnamed) })?;
    Ok(())
}

/// Replaces the whole environment of this process.
///
/// # Safety
/// The calling process has one thread.
pub(crate) unsafe fn replace_environment(pairs: &[std::ffi::OsString]) {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let old: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in old {
        // SAFETY: one thread, says the caller.
        unsafe { std::env::remove_var(name) };
    }
    for pair in pairs {
        let bytes = pair.as_bytes();
        let Some(at) = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) else {
            continue;
        };
        let name = std::ffi::OsString::from_vec(bytes[..at].to_vec());
        let value = std::ffi::OsString::from_vec(bytes[at + 1..].to_vec());
        // SAFETY: one thread, says the caller.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Puts a descriptor on a standard one: 0, 1 or 2, which nobody owns. It survives exec.
pub(crate) fn put_on(fd: impl AsFd, standard: RawFd) -> io::Result<()> {
    // SAFETY: the standard descriptors have no owner that could be surprised.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), standard) }.into())?;
    Ok(())
}
