//! A live container, as the server holds it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::cgroup::ContainerGroup;
use super::channel::Channel;
use super::message::{ExecFailure, FromInit, ToInit};
use super::process::{self, Process};
use super::ranges::Range;
use super::runtime::Registration;
use super::spawner_link::{Born, Gone};
use super::sys;
use crate::capabilities::LimitsBackend;
use crate::error::{Error, Result};
use crate::spec::{ContainerId, Ended, ExecSpec, Exit, ExitStatus, Limits, Usage};

/// How long a build's programs may take to die and its files to be written back before init is killed anyway.
const FINISH_LIMIT: Duration = Duration::from_secs(60);

/// A container. Clones share it; when the last is dropped it is terminated.
#[derive(Debug, Clone)]
pub struct Container(Arc<Handle>);

/// Ends the container when the last handle goes.
#[derive(Debug)]
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// What the container's tasks and programs share.
#[derive(Debug)]
pub(crate) struct Inner {
    id: ContainerId,
    channel: Channel,
    pidfd: AsyncFd<OwnedFd>,
    calls: Mutex<Calls>,
    tun: Mutex<Option<OwnedFd>>,
    group: ContainerGroup,
    limits: Limits,
    backend: LimitsBackend,
    finish_first: bool,
    asked_to_end: AtomicBool,
    ended: watch::Sender<Option<Ended>>,
    /// Held until the container is gone; freeing them lets another have the name and the ids.
    held: Mutex<Option<(Registration, Option<Range>)>>,
}

/// Requests under way and programs that run.
#[derive(Debug, Default)]
struct Calls {
    next: u64,
    closed: bool,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    execs: HashMap<u64, Exec>,
}

type Answer = (i32, Vec<OwnedFd>);

#[derive(Debug)]
struct Exec {
    started: Option<oneshot::Sender<Started>>,
    exit: watch::Sender<Option<ExitStatus>>,
    /// The container's count of out-of-memory kills when it started.
    oom_kills: u64,
}

/// What came of asking for a program: its terminal if it has one, or why it does not run.
pub(crate) type Started = Result<Option<OwnedFd>, (ExecFailure, io::Error, String)>;

/// What `create` has gathered for a container whose init is ready.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: ContainerId,
    pub(crate) channel: Channel,
    pub(crate) born: Born,
    pub(crate) group: ContainerGroup,
    pub(crate) limits: Limits,
    pub(crate) backend: LimitsBackend,
    pub(crate) finish_first: bool,
    pub(crate) registration: Registration,
    pub(crate) range: Option<Range>,
}

impl Container {
    /// Takes a new init over; [`Self::ready`] tells whether it made its root.
    pub(crate) fn adopt(parts: Parts) -> Result<Self> {
        let Born { pidfd, gone } = parts.born;
        let pidfd = sys::watch(pidfd, Interest::READABLE)
            .map_err(Error::system("watch a container's init"))?;
        let inner = Arc::new(Inner {
            id: parts.id,
            channel: parts.channel,
            pidfd,
            calls: Mutex::default(),
            tun: Mutex::default(),
            group: parts.group,
            limits: parts.limits,
            backend: parts.backend,
            finish_first: parts.finish_first,
            asked_to_end: AtomicBool::new(false),
            ended: watch::Sender::new(None),
            held: Mutex::new(Some((parts.registration, parts.range))),
        });
        tokio::spawn(supervise(Arc::clone(&inner), gone));
        Ok(Self(Arc::new(Handle(inner))))
    }

    /// Waits until init has made the root, then listens to it.
    pub(crate) async fn ready(&self) -> Result<()> {
        let inner = self.inner();
        let refused = |stage: String, source: io::Error| Error::Setup {
            container: inner.id.clone(),
            stage,
            source,
        };
        let packet = inner.channel.receive().await;
        let Ok(Some(packet)) = packet else {
            let stage = "its init died while making the root".to_owned();
            return Err(refused(stage, io::ErrorKind::UnexpectedEof.into()));
        };
        match FromInit::decode(&packet.bytes) {
            Ok(FromInit::Ready) => {
                *lock(&inner.tun) = packet.fds.into_iter().next();
                tokio::spawn(listen(Arc::clone(inner)));
                Ok(())
            }
            Ok(FromInit::SetupFailed { stage, errno }) => {
                Err(refused(stage, io::Error::from_raw_os_error(errno)))
            }
            Ok(_) => Err(refused(
                "its init speaks out of turn".to_owned(),
                io::ErrorKind::InvalidData.into(),
            )),
            Err(error) => Err(refused("hear its init".to_owned(), error)),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.inner().id
    }

    /// Starts a program. Errors of starting it ([`Error::ProgramNotFound`], [`Error::Workdir`] …) come from
    /// here; how it ends comes from [`Process::wait`].
    pub async fn exec(&self, spec: ExecSpec) -> Result<Process> {
        process::start(self.inner(), spec).await
    }

    /// Ends every process and waits until all are gone and the control groups are removed.
    ///
    /// For a trusted build, first ends the programs and writes the upper directory back. Ending a container that
    /// has ended is no error.
    pub async fn terminate(&self) -> Result<()> {
        let inner = self.inner();
        inner.asked_to_end.store(true, Ordering::Relaxed);
        let mut finished = Ok(());
        if inner.finish_first && inner.ended.borrow().is_none() {
            finished = inner.finish().await;
        }
        inner.kill();
        inner.wait_ended().await;
        finished
    }

    /// Waits until the container is gone and says why.
    pub async fn ended(&self) -> Ended {
        self.inner().wait_ended().await
    }

    /// A non-blocking TCP socket made in the container's network namespace; connecting or listening with it
    /// acts there.
    pub async fn tcp_socket(&self, v6: bool) -> Result<OwnedFd> {
        self.socket(v6, false).await
    }

    /// The same for UDP over IPv4.
    pub async fn udp_socket(&self) -> Result<OwnedFd> {
        self.socket(false, true).await
    }

    async fn socket(&self, v6: bool, datagram: bool) -> Result<OwnedFd> {
        let inner = self.inner();
        let (errno, fds) = inner.call(|request| ToInit::Socket { request, v6, datagram }).await?;
        match fds.into_iter().next() {
            Some(socket) => Ok(socket),
            None => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Error::System { action: "make a socket in the container", source })
            }
        }
    }

    /// The descriptor of its TUN device, once: non-blocking, one IP packet a read or write.
    #[must_use]
    pub fn take_tun(&self) -> Option<OwnedFd> {
        lock(&self.inner().tun).take()
    }

    /// Whether the kernel has killed one of its programs for lack of memory.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        self.inner().group.oom_kills() > 0
    }

    /// What it has used so far; nothing once it has ended.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner().group.usage()
    }

    /// The limits in force and what enforces them, for people.
    #[must_use]
    pub fn limits_line(&self) -> String {
        limits_line(&self.inner().limits, self.inner().backend)
    }
}

impl Inner {
    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Why nothing more can be asked of it.
    pub(crate) fn gone(&self) -> Error {
        match *self.ended.borrow() {
            Some(Ended::RuntimeGone) => Error::RuntimeGone,
            _ => Error::ContainerGone(self.id.clone()),
        }
    }

    fn kill(&self) {
        self.asked_to_end.store(true, Ordering::Relaxed);
        // It may be gone already.
        let _gone = rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
    }

    async fn wait_ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        let found = ended.wait_for(Option::is_some).await;
        // The sender lives in `self`, so the channel cannot be closed.
        found.ok().and_then(|ended| ended.clone()).unwrap_or(Ended::RuntimeGone)
    }

    async fn finish(&self) -> Result<()> {
        let done =
            tokio::time::timeout(FINISH_LIMIT, self.call(|request| ToInit::Finish { request }));
        let failed = |source| Error::System { action: "write the container's files back", source };
        match done.await {
            Ok(Ok((0, _))) => Ok(()),
            Ok(Ok((errno, _))) => Err(failed(io::Error::from_raw_os_error(errno))),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Sends a request and waits for its answer.
    async fn call(&self, message: impl FnOnce(u64) -> ToInit) -> Result<Answer> {
        self.call_with(message, &[]).await
    }

    /// The same, with descriptors beside it.
    pub(crate) async fn call_with(
        &self,
        message: impl FnOnce(u64) -> ToInit,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer> {
        let (sender, answer) = oneshot::channel();
        let message = {
            let mut calls = lock(&self.calls);
            if calls.closed {
                drop(calls);
                return Err(self.gone());
            }
            calls.next += 1;
            let request = calls.next;
            calls.answers.insert(request, sender);
            message(request)
        };
        self.channel.send(&message.encode(), fds).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())
    }

    /// Sends the order to start a program; how it went comes through the first receiver, its end through the second.
    pub(crate) async fn order(
        &self,
        spec: &ExecSpec,
        pipes: [bool; 3],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(u64, Started, watch::Receiver<Option<ExitStatus>>)> {
        let (started, start) = oneshot::channel();
        let (exit, ending) = watch::channel(None);
        let exec = {
            let mut calls = lock(&self.calls);
            if calls.closed {
                drop(calls);
                return Err(self.gone());
            }
            calls.next += 1;
            let exec = calls.next;
            let oom_kills = self.group.oom_kills();
            calls.execs.insert(exec, Exec { started: Some(started), exit, oom_kills });
            exec
        };
        let message = ToInit::Exec { exec, pipes, pty: spec.pty, echo: spec.pty_echo };
        self.channel.send(&message.encode(), fds).await.map_err(|_| self.gone())?;
        let started = start.await.map_err(|_| self.gone())?;
        Ok((exec, started, ending))
    }

    /// Signals a program and, for SIGKILL, all that descends from it.
    pub(crate) async fn signal(&self, exec: u64, signal: i32) -> Result<()> {
        let (errno, _) = self.call(|request| ToInit::Signal { request, exec, signal }).await?;
        match errno {
            0 => Ok(()),
            libc::ESRCH => Err(Error::ProcessGone(self.id.clone())),
            errno => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Error::System { action: "signal a program", source })
            }
        }
    }

    fn heard(&self, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Started { exec } => self.started(exec, Ok(fds.into_iter().next())),
            FromInit::ExecFailed { exec, failure, errno, stage } => {
                let source = io::Error::from_raw_os_error(errno);
                self.started(exec, Err((failure, source, stage)));
                lock(&self.calls).execs.remove(&exec);
            }
            FromInit::Exited { exec, how } => {
                let exec = lock(&self.calls).execs.remove(&exec);
                if let Some(exec) = exec {
                    let status = ExitStatus { how, oom: self.was_oom(how, exec.oom_kills) };
                    exec.exit.send_replace(Some(status));
                }
            }
            FromInit::Answer { request, errno } => {
                if let Some(answer) = lock(&self.calls).answers.remove(&request) {
                    let _nobody_waits = answer.send((errno, fds));
                }
            }
            FromInit::Ready | FromInit::SetupFailed { .. } => {}
        }
    }

    fn started(&self, exec: u64, how: Started) {
        let waiting = lock(&self.calls).execs.get_mut(&exec).and_then(|exec| exec.started.take());
        if let Some(waiting) = waiting {
            let _nobody_waits = waiting.send(how);
        }
    }

    /// A program that was killed, or a shell whose program was, while the count of such kills rose.
    fn was_oom(&self, how: Exit, before: u64) -> bool {
        let killed = matches!(how, Exit::Signal(libc::SIGKILL) | Exit::Code(137));
        killed && self.group.oom_kills() > before
    }

    /// Nothing of the container runs any more: tells everyone who waits.
    fn close(&self, oom: bool, reason: &Ended) {
        let execs = {
            let mut calls = lock(&self.calls);
            calls.closed = true;
            calls.answers.clear();
            std::mem::take(&mut calls.execs)
        };
        // Where the machine failed its programs have no end of their own: who waits learns so from
        // the closed channel.
        if matches!(reason, Ended::Failed(_) | Ended::RuntimeGone) {
            return;
        }
        for (_, exec) in execs {
            let oom = oom && self.group.oom_kills() > exec.oom_kills;
            exec.exit.send_replace(Some(ExitStatus { how: Exit::Signal(libc::SIGKILL), oom }));
        }
    }

    fn reason(&self, gone: Gone) -> Ended {
        let asked = self.asked_to_end.load(Ordering::Relaxed);
        match gone {
            Gone::SpawnerDied if asked => Ended::Terminated,
            Gone::SpawnerDied => Ended::RuntimeGone,
            Gone::Ended(Exit::Signal(libc::SIGKILL)) if asked => Ended::Terminated,
            Gone::Ended(Exit::Signal(libc::SIGKILL)) if self.group.oom_kills() > 0 => {
                Ended::OutOfMemory
            }
            Gone::Ended(_) if asked => Ended::Terminated,
            Gone::Ended(Exit::Signal(signal)) => {
                Ended::Failed(format!("its init was killed by signal {signal}"))
            }
            Gone::Ended(Exit::Code(code)) => Ended::Failed(format!("its init exited with {code}")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what init says, until it is gone.
async fn listen(inner: Arc<Inner>) {
    loop {
        match inner.channel.receive().await {
            Ok(Some(packet)) => match FromInit::decode(&packet.bytes) {
                Ok(message) => inner.heard(message, packet.fds),
                Err(error) => {
                    tracing::error!(container = %inner.id, %error, "init speaks nonsense");
                    return inner.kill();
                }
            },
            Ok(None) => return,
            Err(error) => {
                tracing::error!(container = %inner.id, %error, "init cannot be heard any more");
                return inner.kill();
            }
        }
    }
}

/// Waits for init's end, then cleans up and says so.
async fn supervise(inner: Arc<Inner>, mut gone: watch::Receiver<Option<Gone>>) {
    let gone = match gone.wait_for(Option::is_some).await {
        Ok(gone) => gone.unwrap_or(Gone::SpawnerDied),
        Err(_spawner_link_dropped) => Gone::SpawnerDied,
    };
    if gone == Gone::SpawnerDied {
        // Init is dying, but may not be dead.
        let _gone = rustix::process::pidfd_send_signal(inner.pidfd.as_fd(), Signal::KILL);
        if let Err(error) = inner.pidfd.readable().await {
            tracing::warn!(container = %inner.id, %error, "cannot wait for a container's init");
        }
    }
    let reason = inner.reason(gone);
    let oom = inner.group.oom_kills() > 0;
    inner.close(oom, &reason);
    let group = inner.group.clone();
    match tokio::task::spawn_blocking(move || group.remove()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(container = %inner.id, %error, "control groups remain until the next start");
        }
        Err(error) => tracing::warn!(container = %inner.id, %error, "control groups remain"),
    }
    drop(lock(&inner.held).take());
    inner.ended.send_replace(Some(reason));
}

fn limits_line(limits: &Limits, backend: LimitsBackend) -> String {
    let enforced = match backend {
        LimitsBackend::V2 => "cgroup v2",
        LimitsBackend::V1 => "cgroup v1",
        LimitsBackend::Rlimits => "each process by itself",
    };
    let memory = limits.memory.map(|bytes| format!("{} MiB of memory", bytes >> 20));
    let cpu = limits.cpu.filter(|_| backend != LimitsBackend::Rlimits);
    let cpu = cpu.map(|cores| format!("{cores} cores"));
    let pids = limits.pids.map(|count| format!("{count} processes"));
    let file = limits.file_size.map(|bytes| format!("{} MiB for one file", bytes >> 20));
    let all: Vec<String> = [memory, cpu, pids, file].into_iter().flatten().collect();
    if all.is_empty() { "no limits".to_owned() } else { format!("{} ({enforced})", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_with_what_enforces_them() {
        let limits =
            Limits { memory: Some(512 << 20), cpu: Some(1.5), pids: Some(64), file_size: None };
        let line = "512 MiB of memory, 1.5 cores, 64 processes (cgroup v1)";
        assert_eq!(limits_line(&limits, LimitsBackend::V1), line);
        let line = "512 MiB of memory, 64 processes (each process by itself)";
        assert_eq!(limits_line(&limits, LimitsBackend::Rlimits), line);
        let none = Limits { pids: None, ..Limits::default() };
        assert_eq!(limits_line(&none, LimitsBackend::V2), "no limits");
    }
}
