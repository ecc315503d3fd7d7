//! The server's side of the spawner: starts it, asks for inits, hears of their ends.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};

use super::channel::Channel;
use super::child;
use super::message::{FromSpawner, Ids, ToSpawner};
use super::sys;
use crate::error::{Error, Result};
use crate::spec::Exit;

/// An init as the spawner made it.
#[derive(Debug)]
pub(crate) struct Born {
    /// Kills it without a doubt about who is meant.
    pub(crate) pidfd: OwnedFd,
    /// Filled when it has been reaped.
    pub(crate) gone: watch::Receiver<Option<Gone>>,
}

/// How an init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// By itself or by a signal.
    Ended(Exit),
    /// With the spawner.
    SpawnerDied,
}

/// Why no init was made.
#[derive(Debug)]
pub(crate) struct NotBorn {
    pub(crate) stage: String,
    pub(crate) source: io::Error,
}

/// The running spawner.
#[derive(Debug)]
pub(crate) struct SpawnerLink {
    channel: Channel,
    table: Mutex<Table>,
    process: tokio::sync::Mutex<Child>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    dead: bool,
    asked: HashMap<u64, Asked>,
    alive: HashMap<u64, watch::Sender<Option<Gone>>>,
}

type Asked = oneshot::Sender<Result<Born, NotBorn>>;

impl SpawnerLink {
    /// Starts the spawner and listens to it until it is gone.
    pub(crate) fn start(program: Option<PathBuf>) -> Result<Arc<Self>> {
        let program = match program {
            Some(program) => program,
            None if child::main_cooperates() => PathBuf::from("/proc/self/exe"),
            None => return Err(Error::NoSpawner),
        };
        let (ours, theirs) = sys::packet_pair().map_err(Error::system("make a socket pair"))?;
        let process = Command::new(&program)
            .arg0(child::SPAWNER_NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::host("start the spawner", &program))?;
        let link = Arc::new(Self {
            channel: Channel::new(ours).map_err(Error::system("watch the spawner's socket"))?,
            table: Mutex::default(),
            process: tokio::sync::Mutex::new(process),
        });
        tokio::spawn(listen(Arc::clone(&link)));
        Ok(link)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an init that gets this socket and this plan.
    pub(crate) async fn create(
        &self,
        ids: Ids,
        socket: OwnedFd,
        plan: OwnedFd,
    ) -> Result<Result<Born, NotBorn>> {
        let (sender, answer) = oneshot::channel();
        let token = {
            let mut table = self.table();
            if table.dead {
                return Err(Error::RuntimeGone);
            }
            table.next += 1;
            let token = table.next;
            table.asked.insert(token, sender);
            token
        };
        let message = ToSpawner::Create { token, ids }.encode();
        let sent = self.channel.send(&message, &[socket.as_fd(), plan.as_fd()]).await;
        sent.map_err(|_| Error::RuntimeGone)?;
        answer.await.map_err(|_| Error::RuntimeGone)
    }

    /// Whether it is gone, and every init with it.
    pub(crate) fn is_dead(&self) -> bool {
        self.table().dead
    }

    fn heard(&self, message: FromSpawner, fds: Vec<OwnedFd>) {
        let mut table = self.table();
        match message {
            FromSpawner::Created { token, .. } => {
                let (sender, gone) = watch::channel(None);
                let (Some(asked), Some(pidfd)) =
                    (table.asked.remove(&token), fds.into_iter().next())
                else {
                    return;
                };
                table.alive.insert(token, sender);
                // If nobody waits any more, dropping init's socket makes it exit.
                let _nobody_waits = asked.send(Ok(Born { pidfd, gone }));
            }
            FromSpawner::NotCreated { token, stage, errno } => {
                if let Some(asked) = table.asked.remove(&token) {
                    let source = io::Error::from_raw_os_error(errno);
                    let _nobody_waits = asked.send(Err(NotBorn { stage, source }));
                }
            }
            FromSpawner::Gone { token, how } => {
                if let Some(sender) = table.alive.remove(&token) {
                    sender.send_replace(Some(Gone::Ended(how)));
                }
            }
        }
    }

    fn all_dead(&self) {
        let mut table = self.table();
        table.dead = true;
        table.asked.clear();
        for (_, sender) in table.alive.drain() {
            sender.send_replace(Some(Gone::SpawnerDied));
        }
    }

    /// Kills the spawner without waiting, when nobody is left to wait.
    pub(crate) fn kill_now(&self) {
        // If `stop` holds the process it is being killed anyway.
        if let Ok(mut process) = self.process.try_lock() {
            let _already_dead = process.start_kill();
        }
    }

    /// Kills the spawner and with it every init.
    pub(crate) async fn stop(&self) -> io::Result<()> {
        self.process.lock().await.kill().await
    }
}

async fn listen(link: Arc<SpawnerLink>) {
    loop {
        let packet = match link.channel.receive().await {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "the spawner cannot be heard any more");
                break;
            }
        };
        match FromSpawner::decode(&packet.bytes) {
            Ok(message) => link.heard(message, packet.fds),
            Err(error) => {
                tracing::error!(%error, "the spawner speaks nonsense");
                break;
            }
        }
    }
    link.all_dead();
}
