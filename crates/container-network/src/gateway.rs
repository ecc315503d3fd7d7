//! [`Gateway`]: what holds a sandbox's network together and what its owner sees of it.

mod dispatch;
mod shared;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dialer::{Dialer, HostDialer};
use crate::error::Result;
use crate::policy::Policy;
use crate::tun::Tun;
use dispatch::Dispatcher;
pub(crate) use shared::Shared;

/// The network of one sandbox, running on the current Tokio runtime until stopped or dropped.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    running: JoinHandle<()>,
    stop: DropGuard,
}

impl Gateway {
    /// Takes over the TUN device `tun`, which was made in the sandbox's network namespace and has the addresses
    /// of [`crate::plan`]. `upstream_dns` are this machine's resolvers, asked in that order; with none, no name
    /// resolves. Must be called within a Tokio runtime.
    pub fn start(tun: OwnedFd, policy: Policy, upstream_dns: Vec<SocketAddr>) -> Result<Self> {
        Self::start_with(tun, policy, upstream_dns, Arc::new(HostDialer))
    }

    /// The same with another way out.
    pub fn start_with(
        tun: OwnedFd,
        policy: Policy,
        upstream_dns: Vec<SocketAddr>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new(Tun::new(tun)?, policy, upstream_dns, dialer)?);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Dispatcher::new(Arc::clone(&shared)).run(stop.clone()));
        Ok(Self { shared, running, stop: stop.drop_guard() })
    }

    /// Puts `policy` in force: at once for new flows, and flows that it does not permit are cut.
    pub fn set_policy(&self, policy: Policy) {
        self.shared.set_policy(policy);
    }

    /// What changes the policy while somebody else owns the gateway.
    #[must_use]
    pub fn control(&self) -> PolicyControl {
        PolicyControl { shared: Arc::downgrade(&self.shared) }
    }

    /// Cuts every flow and gives up the device; returns when all is closed.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.running.await {
            tracing::error!(%error, "gateway failed");
        }
    }
}

/// Changes the policy of a [`Gateway`] for as long as that runs, and keeps nothing of it alive.
#[derive(Debug, Clone)]
pub struct PolicyControl {
    shared: Weak<Shared>,
}

impl PolicyControl {
    /// As [`Gateway::set_policy`]; whether the gateway still runs.
    pub fn set_policy(&self, policy: Policy) -> bool {
        let shared = self.shared.upgrade();
        shared.map(|shared| shared.set_policy(policy)).is_some()
    }
}
