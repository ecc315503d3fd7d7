//! Pid 1 of a container: makes the root, then starts, signals and reaps programs until the server lets go.
//!
//! Under [`Ids::Range`](super::super::message::Ids) it stays in the machine's user namespace, not dumpable, so that no program
//! inside can trace, read or signal it. Bytes of programs never pass through it, and neither do their secrets: the order
//! to start one is read in the program's own process.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::UnshareFlags;

use super::super::message::{ExecFailure, FromInit, Plan, ToInit};
use super::super::sys;
use super::attach::Attached;
use super::device::Devices;
use super::exec::{self, Child, Terminal};
use super::groups::ExecGroups;
use super::userns::Users;
use super::{Failure, Stage as _, root};
use crate::spec::{Builtin, PtySize};

/// Init's life; returns its exit code.
pub(super) fn run(
    socket: OwnedFd,
    plan: OwnedFd,
    users: Users,
    builtins: &'static [Builtin],
) -> i32 {
    let made = sys::read_memory_file(plan)
        .and_then(|bytes| Plan::decode(&bytes))
        .stage(|| "read the plan".to_owned())
        .and_then(|plan| prepare(&plan, &users).map(|made| (made, plan)));
    let (prepared, plan) = match made {
        Ok(made) => made,
        Err(failure) => {
            let errno = failure.errno();
            let message = FromInit::SetupFailed { stage: failure.stage, errno };
            let _server_gone = sys::send_packet(&socket, &message.encode(), &[]);
            return 1;
        }
    };
    let tun: Vec<BorrowedFd<'_>> = prepared.tun.iter().map(|tun| tun.as_fd()).collect();
    if sys::send_packet(&socket, &FromInit::Ready.encode(), &tun).is_err() {
        return 0;
    }
    drop(tun);
    let init = Init {
        socket,
        deaths: prepared.deaths,
        devices: prepared.devices,
        users,
        groups: prepared.groups,
        execs: HashMap::new(),
        attached: Attached::default(),
        builtins,
        ids: plan.ids,
        durable: plan.durable,
        limits: exec::Limits {
            memory: plan.limit_memory,
            pids: plan.limit_pids,
            file_size: plan.limit_file_size,
        },
    };
    match init.serve() {
        Ok(()) => 0,
        Err(_server_gone_or_kernel_out_of_memory) => 2,
    }
}

struct Prepared {
    deaths: OwnedFd,
    devices: Devices,
    groups: ExecGroups,
    tun: Option<OwnedFd>,
}

fn prepare(plan: &Plan, users: &Users) -> Result<Prepared, Failure> {
    if matches!(users, Users::Shared) {
        // An ordinary user may score a process only while it is dumpable, so programs inherit init's score.
        fs::write("/proc/self/oom_score_adj", exec::OOM_SCORE)
            .stage(|| "set the out-of-memory score".to_owned())?;
    }
    protect().stage(|| "protect init".to_owned())?;
    for procs in &plan.join {
        fs::write(procs, "0").stage(|| format!("join the control group `{}`", procs.display()))?;
    }
    let groups = ExecGroups::open(plan.exec_groups.as_deref())
        .stage(|| "open the container's control group".to_owned())?;
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: no file table or address space is unshared, only namespaces.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }.stage(|| "make namespaces".to_owned())?;
    let map = match users {
        Users::Apart(map) => Some(map.as_fd()),
        Users::Shared => None,
    };
    let made = root::make(plan, map)?;
    // Changes of file ids have cleared both.
    protect().stage(|| "protect init".to_owned())?;
    let deaths = sys::child_signals().stage(|| "watch for ended programs".to_owned())?;
    Ok(Prepared { deaths, devices: made.devices, groups, tun: made.tun })
}

/// Dies with the spawner, cannot be traced, holds no key of the machine.
fn protect() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"init")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match sys::join_new_keyring() {
        // A kernel without keys, or one that refuses them, has none to leave.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        other => other,
    }
}

struct Init {
    socket: OwnedFd,
    deaths: OwnedFd,
    devices: Devices,
    users: Users,
    groups: ExecGroups,
    execs: HashMap<u64, Exec>,
    attached: Attached,
    builtins: &'static [Builtin],
    ids: super::super::message::Ids,
    durable: bool,
    limits: exec::Limits,
}

/// A program that has not been reaped.
struct Exec {
    pid: i32,
    /// Readable with a failure, or at its end without one when the program runs.
    report: Option<OwnedFd>,
    /// The master of its terminal, until the server has it.
    terminal: Option<OwnedFd>,
}

impl Init {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let (asked, died, reporting) = self.wait()?;
            for exec in reporting {
                self.report(exec)?;
            }
            if died {
                self.reap()?;
            }
            if asked {
                let Some(packet) = sys::receive_packet(&self.socket)? else { return Ok(()) };
                let message = ToInit::decode(&packet.bytes)?;
                self.obey(message, packet.fds)?;
            }
        }
    }

    fn wait(&self) -> io::Result<(bool, bool, Vec<u64>)> {
        let starting: Vec<(u64, &OwnedFd)> = self
            .execs
            .iter()
            .filter_map(|(exec, state)| Some((*exec, state.report.as_ref()?)))
            .collect();
        let mut fds = vec![
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.deaths, PollFlags::IN),
        ];
        fds.extend(starting.iter().map(|(_, report)| PollFd::new(*report, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let reporting = starting
            .iter()
            .zip(&fds[2..])
            .filter(|(_, fd)| ready(fd))
            .map(|((exec, _), _)| *exec)
            .collect();
        Ok((ready(&fds[0]), ready(&fds[1]), reporting))
    }

    fn send(&self, message: &FromInit, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        sys::send_packet(&self.socket, &message.encode(), fds)
    }

    fn obey(&mut self, message: ToInit, fds: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            ToInit::Exec { exec, pipes, pty, echo } => self.start(exec, pipes, pty, echo, fds),
            ToInit::Signal { request, exec, signal } => {
                let done = self.signal(exec, signal);
                self.send(&answer(request, done), &[])
            }
            ToInit::Socket { request, v6, datagram } => match socket(v6, datagram) {
                Ok(socket) => self.send(&answer(request, Ok(())), &[socket.as_fd()]),
                Err(error) => self.send(&answer(request, Err(error)), &[]),
            },
            ToInit::Attach { request, target } => {
                let users = match &self.users {
                    Users::Apart(map) => Some(map.as_fd()),
                    Users::Shared => None,
                };
                let done = self.attached.attach(&target, fds, users, self.ids);
                self.send(&answer(request, done), &[])
            }
            ToInit::Detach { request, target } => {
                let done = self.attached.detach(&target);
                self.send(&answer(request, done), &[])
            }
            ToInit::Finish { request } => {
                let done = self.finish();
                self.reap()?;
                self.send(&answer(request, done), &[])
            }
        }
    }

    /// Starts a program; failures that the child notices come later through its report.
    fn start(
        &mut self,
        exec: u64,
        pipes: [bool; 3],
        pty: Option<PtySize>,
        echo: bool,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        match self.fork(exec, pipes, pty, echo, fds) {
            Ok(started) => {
                self.execs.insert(exec, started);
                Ok(())
            }
            Err(failure) => {
                self.groups.ended(exec);
                let errno = failure.errno();
                let failure = (ExecFailure::Other, errno, failure.stage);
                self.send(&exec_failed(exec, failure), &[])
            }
        }
    }

    fn fork(
        &self,
        exec: u64,
        pipes: [bool; 3],
        pty: Option<PtySize>,
        echo: bool,
        fds: Vec<OwnedFd>,
    ) -> Result<Exec, Failure> {
        let mut fds = fds.into_iter();
        let order = fds
            .next()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
            .stage(|| "receive the order".to_owned())?;
        let stdio = pipes.map(|piped| if piped { fds.next() } else { None });
        let terminal = pty
            .map(|size| Terminal::open(&self.devices.terminals, size, echo))
            .transpose()
            .stage(|| "open a terminal".to_owned())?;
        let (master, terminal) = terminal.map_or((None, None), |t| (Some(t.master), Some(t.user)));
        let group = self.groups.make(exec).stage(|| "make a control group".to_owned())?;
        let child = Child {
            order,
            stdio,
            null: self.devices.null.as_fd(),
            terminal,
            group,
            users: &self.users,
            ids: self.ids,
            limits: self.limits,
            builtins: self.builtins,
        };
        let (pid, report) = child.start().stage(|| "fork".to_owned())?;
        Ok(Exec { pid, report: Some(report), terminal: master })
    }

    /// The child said why the program does not run, or closed its report because it does.
    fn report(&mut self, exec: u64) -> io::Result<()> {
        let Some(state) = self.execs.get_mut(&exec) else { return Ok(()) };
        let Some(report) = state.report.take() else { return Ok(()) };
        let terminal = state.terminal.take();
        match exec::read_report(&report) {
            None => {
                let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(|fd| fd.as_fd()).collect();
                self.send(&FromInit::Started { exec }, &fds)
            }
            Some(failure) => {
                // Its exit is not a program's: forget it before it is reaped.
                self.execs.remove(&exec);
                self.groups.ended(exec);
                self.send(&exec_failed(exec, failure), &[])
            }
        }
    }

    /// Collects every ended process, ours and orphans.
    fn reap(&mut self) -> io::Result<()> {
        let mut drained = [0; 1024];
        while rustix::io::read(&self.deaths, &mut drained).is_ok() {}
        while let Some((pid, status)) = sys::reap() {
            let found = self.execs.iter().find(|(_, state)| state.pid == pid);
            if let Some(exec) = found.map(|(exec, _)| *exec) {
                self.report(exec)?;
                if self.execs.remove(&exec).is_some() {
                    self.send(&FromInit::Exited { exec, how: sys::exit_of(status) }, &[])?;
                    self.groups.ended(exec);
                }
            }
        }
        self.groups.sweep();
        Ok(())
    }

    /// Signals a program's process group; SIGKILL reaches everything that descends from it.
    fn signal(&self, exec: u64, signal: i32) -> io::Result<()> {
        let pid = self.execs.get(&exec).map(|state| state.pid);
        if signal == libc::SIGKILL {
            let by_group = self.groups.kill(exec)?;
            if !by_group && let Some(pid) = pid {
                kill_descendants(pid);
            }
            if by_group && pid.is_none() {
                return Ok(());
            }
        }
        let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        // Before it has made its own group only the process itself is there.
        match sys::kill(-pid, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => sys::kill(pid, signal),
            other => other,
        }
    }

    /// Ends every other process of the container and writes a kept upper directory back.
    fn finish(&mut self) -> io::Result<()> {
        match sys::kill(-1, libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            _ => {}
        }
        // Init's only children now are dying ones; `reap` reports those that are programs.
        while rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .is_ok()
        {
            self.reap()?;
        }
        if self.durable {
            let root = fs::File::open("/")?;
            rustix::fs::syncfs(&root)?;
        }
        Ok(())
    }
}

fn answer(request: u64, done: io::Result<()>) -> FromInit {
    let errno = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    FromInit::Answer { request, errno }
}

fn exec_failed(exec: u64, (failure, errno, stage): exec::Report) -> FromInit {
    FromInit::ExecFailed { exec, failure, errno, stage }
}

fn socket(v6: bool, datagram: bool) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = if datagram { SocketType::DGRAM } else { SocketType::STREAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// Kills a program's session and its descendants, where there are no control groups to do it by.
///
/// Repeats until a pass finds nothing new, because a process may fork while it is being looked for.
fn kill_descendants(root: i32) {
    for _ in 0..16 {
        let found = descendants(root);
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _already_dead = sys::kill(pid, libc::SIGKILL);
        }
    }
}

/// Every live process whose session is `root` or that has it as an ancestor.
fn descendants(root: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Process::parse(pid, &fs::read_to_string(stat_of(pid)).ok()?))
        .collect();
    let mut family = vec![root];
    loop {
        let before = family.len();
        for process in &processes {
            let related = family.contains(&process.parent) || process.session == root;
            if related && !family.contains(&process.pid) {
                family.push(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    family.retain(|pid| processes.iter().any(|process| process.pid == *pid && !process.zombie));
    family
}

fn stat_of(pid: i32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("stat")
}

#[derive(Debug, PartialEq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    zombie: bool,
}

impl Process {
    /// Reads a line of `/proc/<pid>/stat`; the name in it may contain anything, so fields count from its last `)`.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self { pid, parent, session, zombie: matches!(state, "Z" | "X") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_hostile_names_are_read() {
        let line = "7 (a) S 1) Z 3 4 5 6";
        let expected = Process { pid: 7, parent: 3, session: 5, zombie: true };
        assert_eq!(Process::parse(7, line), Some(expected));
        assert_eq!(Process::parse(7, ""), None);
    }

    #[test]
    fn descendants_include_this_process() {
        let own = std::process::id() as i32;
        assert!(descendants(own).contains(&own));
    }
}
