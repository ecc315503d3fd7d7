//! Sandboxes: containers that run a program and take commands from afar.
//!
//! [`Sandboxes::create`] makes one from a checked [`SandboxSpec`]; from then on a task supervises it
//! until its entrypoint exits, its time is over, or somebody ends it. What is known of it lives in
//! two places: the [`Records`] in the database, which outlive the server, and [`LiveSandbox`] in
//! memory, which has the container, the commands and their output. A sandbox that ended stays in
//! memory for a while, so that its output can be read; every one gets an end in the records, also
//! where the server was killed.

mod activity;
mod attached;
mod create;
mod disk;
pub(crate) mod disk_watch;
mod ending;
mod environment;
mod execs;
mod exit_snapshots;
mod furnishing;
mod hosts;
mod inbound;
mod live;
mod mount_tree;
mod neighbours;
mod network;
mod output;
mod own_roots;
mod persistent;
mod probe;
mod process;
mod readers;
mod records;
mod registry;
mod sidecars;
pub(crate) mod snapshot;
mod sockets;
mod spec;
mod stdin;
mod supervise;
mod tags;
mod tunnels;
pub(crate) mod usage;

use std::sync::Arc;

use futures::future::join_all;
use prost::Message;

pub(crate) use self::activity::{Activity, Use};
pub(crate) use self::create::writable;
pub(crate) use self::disk::Scratch;
pub(crate) use self::ending::Ending;
pub(crate) use self::environment::Environment;
pub(crate) use self::execs::ExecTable;
pub(crate) use self::exit_snapshots::{ExitSnapshot, ExitSnapshots};
pub(crate) use self::furnishing::Furnishing;
pub(crate) use self::hosts::HOSTNAME;
pub(crate) use self::inbound::Inbound;
pub(crate) use self::live::LiveSandbox;
pub(crate) use self::mount_tree::overlaid;
pub(crate) use self::network::{Network, NetworkPlan, resolvers};
pub(crate) use self::output::Lines;
pub(crate) use self::persistent::{PersistentRecord, PersistentSandboxes};
pub(crate) use self::process::{
    Command, OutputTo, RunningProcess, describe as describe_exec_error,
};
pub(crate) use self::records::{Filter, Records, SandboxRecord};
pub(crate) use self::registry::Registry;
pub(crate) use self::sockets::connect;
pub(crate) use self::sockets::listen as inside_listener;
pub(crate) use self::spec::{
    NetworkAccess, PortSpec, SandboxSpec, check_arguments, checked_name, directory, mount_target,
    secret_sources, terminal, workdir,
};
pub(crate) use self::stdin::{StdinError, StdinStream};
pub(crate) use self::tags::Tags;
pub(crate) use self::tunnels::Tunnels;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, SandboxId, TaskId};
use crate::state::State;

/// The sandboxes of this server.
pub(crate) struct Sandboxes {
    pub(crate) registry: Registry,
    pub(crate) records: Records,
    pub(crate) exit_snapshots: ExitSnapshots,
    pub(crate) persistent: PersistentSandboxes,
}

impl Sandboxes {
    /// Gives an end to the sandboxes of an earlier server that was killed, and clears up after it.
    pub(crate) async fn open(state: &State) -> Result<Self> {
        let records = Records::new(state.db.clone());
        let ending = Ending::internal("the local server was killed while the sandbox ran");
        let ended = records.end_all(&ending).await?;
        if ended > 0 {
            tracing::warn!(sandboxes = ended, "sandboxes went down with an earlier server");
        }
        let dir = state.dir.clone();
        crate::blocking::run(move || disk::discard_leftovers(&dir)).await?;
        let exit_snapshots = ExitSnapshots::new(state.db.clone());
        exit_snapshots.fail_pending("the local server was killed before it was taken").await?;
        let persistent = PersistentSandboxes::new(state.db.clone());
        Ok(Self { registry: Registry::default(), records, exit_snapshots, persistent })
    }

    /// Makes a sandbox; returns when its entrypoint runs. `repeated` is what the client is answered if it
    /// asks again after the server was killed: there is this one, which has ended, and no second.
    pub(crate) async fn create<M: Message>(
        &self,
        ctx: &Ctx,
        spec: SandboxSpec,
        repeated: impl FnOnce(&LiveSandbox) -> M,
    ) -> Result<Arc<LiveSandbox>> {
        create::create(ctx, spec, repeated).await
    }

    /// How many run now: the server does not end itself while there is one.
    pub(crate) fn running(&self) -> usize {
        self.registry.live().len()
    }

    /// The sandbox with this id, if it lives or ended not long ago.
    pub(crate) fn find(&self, id: &SandboxId) -> Option<Arc<LiveSandbox>> {
        self.registry.find(id)
    }

    /// The sandbox of this task.
    ///
    /// # Errors
    ///
    /// `NotFound` if it never was, or ended so long ago that its output is gone.
    pub(crate) fn of_task(&self, id: &TaskId) -> Result<Arc<LiveSandbox>> {
        self.registry.find_task(id).ok_or_else(|| Error::not_found("task", id))
    }

    /// How many of an app run now.
    pub(crate) fn running_in(&self, app: &AppId) -> usize {
        self.registry.live().iter().filter(|sandbox| sandbox.app == *app).count()
    }

    /// Ends the sandboxes of an app, and waits until they have ended.
    pub(crate) async fn terminate_app(&self, app: &AppId) {
        self.stop_all(|sandbox| sandbox.app == *app, "its app was stopped").await;
    }

    /// Ends all of them; part of stopping the server.
    pub(crate) async fn shutdown(&self) {
        self.stop_all(|_| true, "the local server was stopped").await;
    }

    async fn stop_all(&self, which: impl Fn(&LiveSandbox) -> bool, reason: &str) {
        let sandboxes = self.registry.live();
        let chosen: Vec<_> = sandboxes.iter().filter(|sandbox| which(sandbox)).collect();
        for sandbox in &chosen {
            sandbox.request_stop(Ending::terminated(reason));
        }
        join_all(chosen.iter().map(|sandbox| sandbox.ended())).await;
    }
}
