//! The spawner: forks an init for each container and reports its end. It parses no plan and keeps no secret.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{DumpableBehavior, Signal};

use super::super::message::{FromSpawner, Ids, ToSpawner};
use super::super::sys::{self, Fork, Packet};
use super::userns::{self, Users};
use super::{Failure, Stage as _, init};
use crate::spec::Builtin;

/// What the server calls the spawner: the first word of its command line.
pub(crate) const SPAWNER_NAME: &str = "container-spawner";
/// A built-in program of every spawner; it does nothing, successfully.
pub(crate) const PROBE_PROGRAM: &str = "/.container-runtime/probe";

static MAIN_COOPERATES: AtomicBool = AtomicBool::new(false);

/// Becomes the spawner, never to return, if this process was started as one.
///
/// Call it first in `main`, before any thread exists. `builtins` are the programs that exist in
/// every container without a file.
pub fn run_if_spawner(builtins: &'static [Builtin]) {
    MAIN_COOPERATES.store(true, Ordering::Relaxed);
    if std::env::args_os().next() != Some(OsString::from(SPAWNER_NAME)) {
        return;
    }
    let code = match Spawner::new(builtins).and_then(Spawner::serve) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error);
            1
        }
    };
    std::process::exit(code);
}

/// Whether this program's `main` has called [`run_if_spawner`], so that re-executing it makes a spawner.
pub(crate) fn main_cooperates() -> bool {
    MAIN_COOPERATES.load(Ordering::Relaxed)
}

#[expect(clippy::print_stderr, reason = "the spawner has nobody else to tell")]
fn complain(error: &io::Error) {
    eprintln!("{SPAWNER_NAME}: {error}");
}

struct Spawner {
    control: OwnedFd,
    deaths: OwnedFd,
    inits: HashMap<i32, u64>,
    builtins: &'static [Builtin],
}

impl Spawner {
    /// Takes the control socket from standard input and detaches from the server's terminal.
    fn new(builtins: &'static [Builtin]) -> io::Result<Self> {
        let control = std::io::stdin().as_fd().try_clone_to_owned()?;
        let null = std::fs::File::open("/dev/null")?;
        sys::put_on(&null, 0)?;
        // SAFETY: this process has just begun; it owns no descriptor but the standard ones and these two.
        unsafe {
            sys::close_from(control.as_raw_fd().max(null.as_raw_fd()).unsigned_abs() + 1, false)?
        };
        std::env::set_current_dir("/")?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        // Interrupts typed at the server's terminal are the server's to handle. A leader of a group may not leave it.
        let _already_leader = rustix::process::setsid();
        Ok(Self { control, deaths: sys::child_signals()?, inits: HashMap::new(), builtins })
    }

    /// Serves until the server is gone.
    fn serve(mut self) -> io::Result<()> {
        loop {
            let (asked, died) = {
                let mut fds = [
                    PollFd::new(&self.control, PollFlags::IN),
                    PollFd::new(&self.deaths, PollFlags::IN),
                ];
                rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
                (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
            };
            if died {
                self.report_deaths()?;
            }
            if asked {
                let Some(packet) = sys::receive_packet(&self.control)? else { return Ok(()) };
                self.answer(packet)?;
            }
        }
    }

    fn report_deaths(&mut self) -> io::Result<()> {
        let mut drained = [0; 1024];
        while rustix::io::read(&self.deaths, &mut drained).is_ok() {}
        while let Some((pid, status)) = sys::reap() {
            if let Some(token) = self.inits.remove(&pid) {
                let gone = FromSpawner::Gone { token, how: sys::exit_of(status) };
                sys::send_packet(&self.control, &gone.encode(), &[])?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, packet: Packet) -> io::Result<()> {
        let ToSpawner::Create { token, ids } = ToSpawner::decode(&packet.bytes)?;
        match self.create(ids, packet.fds) {
            Ok((pid, pidfd)) => {
                self.inits.insert(pid, token);
                let created = FromSpawner::Created { token, pid: pid.unsigned_abs() };
                sys::send_packet(&self.control, &created.encode(), &[pidfd.as_fd()])
            }
            Err(failure) => {
                let errno = failure.errno();
                let failed = FromSpawner::NotCreated { token, stage: failure.stage, errno };
                sys::send_packet(&self.control, &failed.encode(), &[])
            }
        }
    }

    /// Forks an init; in the child this does not return.
    fn create(&mut self, ids: Ids, fds: Vec<OwnedFd>) -> Result<(i32, OwnedFd), Failure> {
        let [socket, plan]: [OwnedFd; 2] = fds
            .try_into()
            .map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
            .stage(|| "receive init's descriptors".to_owned())?;
        let users = Users::prepare(ids).stage(|| "make a user namespace".to_owned())?;
        let gate = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .stage(|| "make a pipe".to_owned())?;
        let flags = match users {
            Users::Apart(_) => libc::CLONE_NEWPID,
            Users::Shared => libc::CLONE_NEWPID | libc::CLONE_NEWUSER,
        };
        if matches!(users, Users::Shared) {
            // The files through which an ordinary user maps the child's ids are his only as long as it is dumpable.
            set_dumpable(DumpableBehavior::Dumpable)?;
        }
        // SAFETY: the spawner has one thread; init does not use libc's idea of its thread id.
        match unsafe { sys::clone_into(flags) }.stage(|| "make a pid namespace".to_owned())? {
            Fork::Child => self.become_init(socket, plan, users, gate),
            Fork::Parent((pid, pidfd)) => {
                if matches!(users, Users::Shared) {
                    let mapped = userns::map_caller(pid);
                    set_dumpable(DumpableBehavior::NotDumpable)?;
                    if let Err(error) = mapped {
                        let _gone = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                        return Err(error).stage(|| "map ids into a user namespace".to_owned());
                    }
                }
                let (_, open) = gate;
                let _init_died = rustix::io::write(&open, b"!");
                Ok((pid, pidfd))
            }
        }
    }

    fn become_init(
        &mut self,
        socket: OwnedFd,
        plan: OwnedFd,
        users: Users,
        (gate, open): (OwnedFd, OwnedFd),
    ) -> ! {
        let builtins = self.builtins;
        let inherited = [self.control.as_raw_fd(), self.deaths.as_raw_fd()];
        drop(open);
        let body = AssertUnwindSafe(|| {
            for fd in inherited {
                // SAFETY: this copy of the spawner never returns to code that uses or drops these two.
                unsafe { rustix::io::close(fd) };
            }
            if rustix::io::read(&gate, &mut [0u8; 1]) == Ok(1) {
                drop(gate);
                init::run(socket, plan, users, builtins)
            } else {
                1
            }
        });
        sys::exit_now(catch_unwind(body).unwrap_or(101))
    }
}

fn set_dumpable(how: DumpableBehavior) -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(how).stage(|| "change who may look in".to_owned())
}
