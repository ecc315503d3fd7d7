//! What all flows of a gateway share.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::dialer::Dialer;
use crate::dns::{self, Upstream};
use crate::error::Result;
use crate::machine::Machine;
use crate::policy::{Facts, Policy, ResolvedNames, Transport, Verdict};
use crate::tun::Tun;

/// This machine's addresses change when networks come and go.
const MACHINE_AGE: Duration = Duration::from_secs(5);
/// The sandbox's kernel itself tries for two minutes; few programs wait that long.
const DIAL: Duration = Duration::from_secs(30);

pub(crate) struct Shared {
    tun: Tun,
    policy: watch::Sender<Arc<Policy>>,
    upstream: Upstream,
    dialer: Arc<dyn Dialer>,
    machine: Mutex<(Instant, Machine)>,
    names: Mutex<ResolvedNames>,
}

impl Shared {
    pub(super) fn new(
        tun: Tun,
        policy: Policy,
        upstream: Vec<SocketAddr>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self> {
        let machine = Mutex::new((Instant::now(), Machine::read()?));
        let policy = watch::Sender::new(Arc::new(policy));
        Ok(Self {
            tun,
            policy,
            upstream: Upstream::new(upstream),
            dialer,
            machine,
            names: Mutex::default(),
        })
    }

    pub(crate) fn tun(&self) -> &Tun {
        &self.tun
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Tells flows when to ask again whether they are permitted.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// The verdict of the policy in force.
    pub(crate) fn decide(&self, transport: Transport, to: SocketAddr) -> Verdict {
        if self.dialer.is_own(transport, to) {
            return Verdict::Allow;
        }
        let now = Instant::now();
        let machine = self.machine(now);
        let names = lock(&self.names);
        self.policy().decide(transport, to, &Facts { machine: &machine.1, names: &names, now })
    }

    /// Whether a flow that was permitted still is.
    pub(crate) fn still_permits(&self, transport: Transport, to: SocketAddr) -> bool {
        !matches!(self.decide(transport, to), Verdict::Deny(_))
    }

    /// Notes what `name` resolved to.
    pub(crate) fn learn(&self, name: &str, answers: Vec<dns::Answer>) {
        let now = Instant::now();
        let mut names = lock(&self.names);
        for answer in answers {
            names.learn(name, answer.address, answer.time_to_live, now);
        }
    }

    pub(crate) async fn dial_tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        timeout(DIAL, self.dialer.tcp(to)).await?
    }

    pub(crate) async fn dial_udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        timeout(DIAL, self.dialer.udp(to)).await?
    }

    fn machine(&self, now: Instant) -> MutexGuard<'_, (Instant, Machine)> {
        let mut known = lock(&self.machine);
        if now.duration_since(known.0) > MACHINE_AGE {
            known.0 = now;
            match Machine::read() {
                Ok(machine) => known.1 = machine,
                Err(error) => tracing::warn!(%error, "this machine's addresses may be out of date"),
            }
        }
        known
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("policy", &self.policy()).finish_non_exhaustive()
    }
}

/// The data behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
