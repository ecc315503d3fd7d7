//! From fork to exec: one program, its descriptors, its ids, everything it may not do.
//!
//! The order of steps matters: the control group and the out-of-memory score need the machine's root, the bounding set
//! needs capabilities, and the filter comes last, since it refuses calls the steps before it make.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::fs::FileType;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{LocalModes, OptionalActions, Winsize};

use super::super::message::{ExecFailure, Ids, Order};
use super::super::seccomp;
use super::super::sys::{self, Fork};
use super::userns::Users;
use super::{device, groups};
use crate::spec::{Builtin, PtySize};

/// What root inside may do to the container's own files and processes; nothing reaches the machine.
const KEPT_CAPABILITIES: u64 = 1 << 0 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 18 // SYS_CHROOT
    | 1 << 31; // SETFCAP

/// Where a program is looked for if its environment names no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs die before init does when memory runs out.
pub(super) const OOM_SCORE: &str = "500";

/// Why a program does not run: which part, `errno`, the step in words.
pub(super) type Report = (ExecFailure, i32, String);

/// Limits of single processes, used where no control groups are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) file_size: Option<u64>,
}

/// A terminal: the server's end and the program's.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) user: OwnedFd,
}

impl Terminal {
    /// A new one of the container's own devpts.
    pub(super) fn open(terminals: &OwnedFd, size: PtySize, echo: bool) -> io::Result<Self> {
        let (master, user) = device::open_terminal(terminals)?;
        let (ws_row, ws_col) = (size.rows, size.cols);
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size)?;
        if !echo {
            let mut modes = rustix::termios::tcgetattr(&user)?;
            modes.local_modes.remove(LocalModes::ECHO);
            rustix::termios::tcsetattr(&user, OptionalActions::Now, &modes)?;
        }
        Ok(Self { master, user })
    }
}

/// Everything the new process needs, prepared by init.
pub(super) struct Child<'a> {
    pub(super) order: OwnedFd,
    pub(super) stdio: [Option<OwnedFd>; 3],
    pub(super) null: BorrowedFd<'a>,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) group: Option<OwnedFd>,
    pub(super) users: &'a Users,
    pub(super) ids: Ids,
    pub(super) limits: Limits,
    pub(super) builtins: &'static [Builtin],
}

impl Child<'_> {
    /// Forks. In init: the pid, and the descriptor on which a failure is reported; its end without one means success.
    pub(super) fn start(self) -> io::Result<(i32, OwnedFd)> {
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: init has one thread.
        match unsafe { sys::fork() }? {
            Fork::Parent(pid) => Ok((pid, report)),
            Fork::Child => {
                let body = AssertUnwindSafe(|| self.become_program(reporter));
                sys::exit_now(catch_unwind(body).unwrap_or(101))
            }
        }
    }

    /// In the child: returns only the exit code of a built-in program, or after reporting a failure.
    fn become_program(self, reporter: OwnedFd) -> i32 {
        let prepared = self.prepare();
        let (builtin, order) = match prepared {
            Ok(prepared) => prepared,
            Err(report) => return send_report(&reporter, &report),
        };
        match builtin {
            Some(builtin) => {
                // SAFETY: the process has one thread and, from here on, no use for any descriptor but 0, 1 and 2;
                // owners of the others are leaked, since this function's process ends without unwinding further.
                unsafe {
                    std::mem::forget(reporter);
                    if sys::close_from(3, false).is_err() {
                        return 101;
                    }
                    sys::replace_environment(&order.env);
                }
                let code = (builtin.main)(order.argv);
                let _closed = io::stdout().flush();
                code
            }
            None => {
                let report = match run(&order) {
                    Ok(never) => match never {},
                    Err(report) => report,
                };
                send_report(&reporter, &report)
            }
        }
    }

    fn prepare(self) -> Result<(Option<Builtin>, Order), Report> {
        let other = |step: &'static str| move |error: io::Error| other(step, &error);
        if let Some(group) = &self.group {
            groups::join(group).map_err(other("join the program's control group"))?;
        }
        rustix::process::setsid().map_err(|error| other("start a session")(error.into()))?;
        connect(self.stdio, self.null, self.terminal, self.ids)
            .map_err(other("connect the standard descriptors"))?;
        if let Ids::Range(_) = self.ids {
            fs::write("/proc/self/oom_score_adj", OOM_SCORE)
                .map_err(other("set the out-of-memory score"))?;
        }
        set_limits(self.limits).map_err(other("set limits"))?;
        let order = sys::read_memory_file(self.order)
            .and_then(|bytes| Order::decode(&bytes))
            .map_err(other("read the order"))?;
        let builtin = self
            .builtins
            .iter()
            .copied()
            .find(|builtin| order.argv.first().is_some_and(|name| name == builtin.path))
            .or_else(|| probe(&order));
        drop_privileges(self.users, order.uid, order.gid).map_err(other("give privileges up"))?;
        sys::default_signals();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        std::env::set_current_dir(&order.cwd).map_err(|error| {
            (ExecFailure::Workdir, error.raw_os_error().unwrap_or(libc::EIO), String::new())
        })?;
        // SAFETY: marking only; nothing is closed while this code runs.
        unsafe { sys::close_from(3, true) }.map_err(other("close descriptors"))?;
        sys::load_filter(&seccomp::program()).map_err(other("load the system call filter"))?;
        Ok((builtin, order))
    }
}

fn other(step: &str, error: &io::Error) -> Report {
    (ExecFailure::Other, error.raw_os_error().unwrap_or(libc::EIO), step.to_owned())
}

/// The program with which the runtime tries its own machinery.
fn probe(order: &Order) -> Option<Builtin> {
    let named = order.argv.first().is_some_and(|name| name == super::PROBE_PROGRAM);
    named.then_some(Builtin { path: super::PROBE_PROGRAM, main: |_| 0 })
}

/// Puts pipes, the terminal or nothing on 0, 1 and 2, owned by root inside so that `/dev/stdout` can be opened.
fn connect(
    stdio: [Option<OwnedFd>; 3],
    null: BorrowedFd<'_>,
    terminal: Option<OwnedFd>,
    ids: Ids,
) -> io::Result<()> {
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal)?;
        give(terminal.as_fd(), ids)?;
        return (0..3).try_for_each(|standard| sys::put_on(&terminal, standard));
    }
    for pipe in stdio.iter().flatten() {
        give(pipe.as_fd(), ids)?;
    }
    stdio.iter().zip(0..).try_for_each(|(pipe, standard)| match pipe {
        Some(pipe) => sys::put_on(pipe, standard),
        None => sys::put_on(null, standard),
    })
}

fn give(fd: BorrowedFd<'_>, ids: Ids) -> io::Result<()> {
    let Ids::Range(base) = ids else { return Ok(()) };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(base), rustix::fs::Gid::from_raw(base));
        rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn set_limits(limits: Limits) -> io::Result<()> {
    sys::limit(libc::RLIMIT_CORE, 0, 0)?;
    sys::limit(libc::RLIMIT_NOFILE, 1024, 65_536)?;
    sys::limit(libc::RLIMIT_MEMLOCK, 64 << 10, 64 << 10)?;
    sys::limit(libc::RLIMIT_MSGQUEUE, 819_200, 819_200)?;
    sys::limit(libc::RLIMIT_SIGPENDING, 4096, 4096)?;
    if let Some(bytes) = limits.memory {
        sys::limit(libc::RLIMIT_AS, bytes, bytes)?;
    }
    if let Some(count) = limits.pids {
        sys::limit(libc::RLIMIT_NPROC, count, count)?;
    }
    if let Some(bytes) = limits.file_size {
        sys::limit(libc::RLIMIT_FSIZE, bytes, bytes)?;
    }
    Ok(())
}

/// Joins the container's users, becomes one of them, and can never gain anything again.
fn drop_privileges(users: &Users, uid: u32, gid: u32) -> io::Result<()> {
    if let Users::Apart(namespace) = users {
        let kind = rustix::thread::LinkNameSpaceType::User;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
        sys::drop_groups()?;
    }
    sys::bound_capabilities(KEPT_CAPABILITIES)?;
    sys::become_user(uid, gid)?;
    sys::set_capabilities(if uid == 0 { KEPT_CAPABILITIES } else { 0 })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Executes the order; returns only why that failed.
fn run(order: &Order) -> Result<Infallible, Report> {
    let text = |text: &OsString| CString::new(text.as_bytes());
    let argv: Result<Vec<CString>, _> = order.argv.iter().map(text).collect();
    let env: Result<Vec<CString>, _> = order.env.iter().map(text).collect();
    let (Ok(argv), Ok(env)) = (argv, env) else {
        return Err((ExecFailure::Other, libc::EINVAL, "read the order".to_owned()));
    };
    let Some(program) = order.argv.first() else {
        return Err((ExecFailure::Other, libc::EINVAL, "read the order".to_owned()));
    };
    let mut refused = None;
    for candidate in candidates(program, &order.env) {
        let errno = try_exec(&candidate, &argv, &env).raw_os_error().unwrap_or(libc::EIO);
        match errno {
            libc::ENOENT if Path::new(&candidate).exists() => {
                // It is the interpreter, named in its first line or its header, that is missing.
                return Err((ExecFailure::NotExecutable, errno, String::new()));
            }
            libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => {}
            _ => refused = refused.or(Some(errno)),
        }
    }
    match refused {
        Some(libc::E2BIG) => {
            Err((ExecFailure::Other, libc::E2BIG, "pass arguments and environment".to_owned()))
        }
        Some(errno) => Err((ExecFailure::NotExecutable, errno, String::new())),
        None => Err((ExecFailure::NotFound, libc::ENOENT, String::new())),
    }
}

/// The files a program's name may mean, as `execvp` looks for them.
fn candidates(program: &OsStr, env: &[OsString]) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|pair| pair.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(DEFAULT_PATH.as_bytes());
    path.split(|byte| *byte == b':')
        .map(|directory| {
            let directory = if directory.is_empty() { b".".as_slice() } else { directory };
            OsString::from_vec([directory, b"/", program.as_bytes()].concat())
        })
        .collect()
}

/// `execve`; a script without a first line goes to `/bin/sh`.
fn try_exec(path: &OsStr, argv: &[CString], env: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path.as_bytes()) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let error = exec(&path, argv.iter().collect(), env);
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return error;
    }
    let words = [c"/bin/sh".to_owned(), path];
    exec(c"/bin/sh", words.iter().chain(argv.iter().skip(1)).collect(), env)
}

fn exec(path: &std::ffi::CStr, argv: Vec<&CString>, env: &[CString]) -> io::Error {
    let ended = [std::ptr::null()];
    let argv: Vec<_> = argv.iter().map(|word| word.as_ptr()).chain(ended).collect();
    let env: Vec<_> = env.iter().map(|pair| pair.as_ptr()).chain(ended).collect();
    // SAFETY: every pointer but the last comes from a `CString` that outlives the call.
    match unsafe { sys::execve(path, &argv, &env) } {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Writes a failure in one piece, small enough to be atomic.
fn send_report(reporter: &OwnedFd, (failure, errno, step): &Report) -> i32 {
    let mut bytes = vec![failure.code()];
    bytes.extend_from_slice(&errno.to_le_bytes());
    bytes.extend_from_slice(step.as_bytes());
    let _init_gone = rustix::io::write(reporter, &bytes);
    127
}

/// Reads what [`send_report`] wrote; `None` at the end of the pipe.
pub(super) fn read_report(report: &OwnedFd) -> Option<Report> {
    let mut buffer = [0; 512];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(report, &mut buffer)).ok()?;
    let (code, rest) = buffer[..length].split_first()?;
    let (errno, step) = rest.split_first_chunk::<4>()?;
    let step = String::from_utf8_lossy(step).into_owned();
    Some((ExecFailure::from_code((*code).into()), i32::from_le_bytes(*errno), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_where_their_environment_says() {
        let env = [OsString::from("A=1"), OsString::from("PATH=/x::/y")];
        assert_eq!(candidates(OsStr::new("p"), &env), ["/x/p", "./p", "/y/p"]);
        assert_eq!(candidates(OsStr::new("./p"), &env), ["./p"]);
        assert_eq!(candidates(OsStr::new("p"), &[])[0], "/usr/local/sbin/p");
    }

    #[test]
    fn reports_are_read_back() {
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        send_report(&reporter, &(ExecFailure::Workdir, 20, "step".to_owned()));
        let read = read_report(&report);
        assert_eq!(read, Some((ExecFailure::Workdir, 20, "step".to_owned())));
        drop(reporter);
        assert_eq!(read_report(&report), None);
    }
}
