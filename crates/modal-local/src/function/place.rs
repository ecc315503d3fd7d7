//! The inside of a function's container while it runs: where commands are started, ports are forwarded from, and what a
//! snapshot is made of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use container_runtime::{Container, Input};
use modal_proto::client::TunnelData;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::sandbox::snapshot::RootRecord;
use crate::sandbox::{Activity, Environment, ExecTable, Inbound, PortSpec, Tunnels};

/// How long what is typed may wait until the program reads.
const TYPING: Duration = Duration::from_secs(5);

/// A running container of a function.
pub(crate) struct Place {
    /// When its program was started.
    pub(crate) began: Instant,
    /// Taken away when it ends.
    container: Mutex<Option<Container>>,
    pub(crate) execs: ExecTable,
    /// What commands inherit.
    pub(crate) env: Environment,
    pub(crate) workdir: PathBuf,
    /// Where output lies that does not fit in memory.
    pub(crate) spill_dir: PathBuf,
    /// What a snapshot is made of.
    pub(crate) root: RootRecord,
    /// Ports that the program has forwarded.
    tunnels: tokio::sync::Mutex<HashMap<u16, Tunnels>>,
    activity: Activity,
    /// Where a person types, if it has a terminal.
    keyboard: tokio::sync::Mutex<Option<Input>>,
}

impl Place {
    pub(super) fn new(
        container: Container,
        env: Environment,
        workdir: PathBuf,
        spill_dir: PathBuf,
        root: RootRecord,
        keyboard: Option<Input>,
    ) -> Self {
        Self {
            began: Instant::now(),
            container: Mutex::new(Some(container)),
            execs: ExecTable::default(),
            env,
            workdir,
            spill_dir,
            root,
            tunnels: tokio::sync::Mutex::default(),
            activity: Activity::new(),
            keyboard: tokio::sync::Mutex::new(keyboard),
        }
    }

    /// Whether its program has a terminal that is still there.
    pub(crate) async fn keyboard(&self) -> Option<()> {
        self.keyboard.lock().await.as_ref().map(drop)
    }

    /// Types into the terminal. A program that reads nothing does not hold up who types.
    pub(crate) async fn type_in(&self, typed: &[u8]) -> Result<()> {
        let mut keyboard = self.keyboard.lock().await;
        let gone = || Error::Precondition("the container has no terminal".to_owned());
        let input = keyboard.as_mut().ok_or_else(gone)?;
        match tokio::time::timeout(TYPING, input.write_all(typed)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                keyboard.take();
                Err(gone())
            }
            Err(_) => {
                Err(Error::Exhausted("the program reads nothing of what is typed".to_owned()))
            }
        }
    }

    /// Its container, as long as it lives.
    pub(crate) fn container(&self) -> Result<Container> {
        let ended = || Error::Precondition("the container has ended".to_owned());
        self.lock().clone().ok_or_else(ended)
    }

    /// Nothing can be started in it from now on; its tunnels close.
    pub(super) async fn close(&self) {
        self.lock().take();
        self.keyboard.lock().await.take();
        self.tunnels.lock().await.clear();
    }

    /// Makes a port of the container reachable on this machine.
    pub(crate) async fn forward(&self, ctx: &Ctx, port: PortSpec) -> Result<TunnelData> {
        let container = self.container()?;
        let mut tunnels = self.tunnels.lock().await;
        if tunnels.contains_key(&port.port) {
            return Err(Error::already_exists("tunnel of port", port.port));
        }
        let opened =
            Tunnels::open(ctx, &container, &[port], (&self.activity, &Inbound::default())).await?;
        let data = opened.data.first().cloned().unwrap_or_default();
        tunnels.insert(port.port, opened);
        Ok(data)
    }

    /// Ends it; answers whether there was one.
    pub(crate) async fn unforward(&self, port: u16) -> bool {
        self.tunnels.lock().await.remove(&port).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Container>> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
