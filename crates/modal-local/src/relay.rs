//! Relays: made-up host names under which a sandbox may reach one port of this machine.
//!
//! A client registers one for a server of its own, such as a proxy that adds an API key, and names
//! the host in the definition of a sandbox. Only such a sandbox reaches it. A relay lives for a
//! minute unless its client renews it, and goes with the client that forgot it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::ids::random_suffix;

/// How long a relay lives without being renewed.
const LEASE: Duration = Duration::from_secs(60);
/// Relays at the same time, at most.
const MAX_RELAYS: usize = 4_096;

/// One relay.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    /// The made-up name, lower case.
    pub(crate) host: String,
    /// The port that sandboxes connect to.
    pub(crate) port: u16,
    /// Where connections go; always a loopback address.
    pub(crate) target: SocketAddr,
    /// Cancelled when the relay ends.
    pub(crate) closed: CancellationToken,
}

impl Relay {
    /// A port of this machine's loopback under its own address.
    pub(crate) fn to_own_port(port: u16) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let host = target.ip().to_string();
        Self { host, port, target, closed: CancellationToken::new() }
    }
}

struct Lease {
    relay: Relay,
    until: Instant,
}

/// The relays of this server. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Relays {
    leases: Arc<Mutex<HashMap<String, Lease>>>,
}

impl Relays {
    /// Registers a relay to a loopback address. Answers the id to renew and remove it by, too.
    pub(crate) fn register(&self, target: SocketAddr) -> Result<(String, Relay)> {
        if !target.ip().is_loopback() || target.port() == 0 {
            return Err(Error::invalid(format!(
                "a relay's target must be an address of this machine such as 127.0.0.1:4000, not {target}"
            )));
        }
        let mut leases = self.lock();
        if leases.len() >= MAX_RELAYS {
            return Err(Error::Precondition(format!("there are {MAX_RELAYS} relays already")));
        }
        let name = random_suffix().to_ascii_lowercase();
        let relay = Relay {
            host: format!("{name}.relay.internal"),
            port: target.port(),
            target,
            closed: CancellationToken::new(),
        };
        let (id, until) = (random_suffix(), Instant::now() + LEASE);
        leases.insert(id.clone(), Lease { relay: relay.clone(), until });
        Ok((id, relay))
    }

    /// Keeps a relay for another minute.
    pub(crate) fn renew(&self, id: &str) -> Result<Relay> {
        let mut leases = self.lock();
        let lease = leases.get_mut(id).ok_or_else(|| Error::not_found("relay", id))?;
        lease.until = Instant::now() + LEASE;
        Ok(lease.relay.clone())
    }

    /// Ends a relay; one that ended already is fine.
    pub(crate) fn remove(&self, id: &str) {
        if let Some(lease) = self.lock().remove(id) {
            lease.relay.closed.cancel();
        }
    }

    /// Those that live.
    pub(crate) fn all(&self) -> Vec<Relay> {
        self.lock().values().map(|lease| lease.relay.clone()).collect()
    }

    /// Ends what was not renewed; every access does it.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.lock_at(Instant::now())
    }

    fn lock_at(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Lease>> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|_, lease| {
            let lives = lease.until > now;
            if !lives {
                lease.relay.closed.cancel();
            }
            lives
        });
        leases
    }

    /// Ends what was not renewed.
    pub(crate) fn sweep(&self) {
        drop(self.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_lives_as_long_as_it_is_renewed() {
        let relays = Relays::default();
        let (id, relay) = relays.register("127.0.0.1:4000".parse().unwrap()).unwrap();
        assert_eq!(relay.port, 4000);
        drop(relays.lock_at(Instant::now() + LEASE - Duration::from_secs(5)));
        relays.renew(&id).unwrap();
        assert!(!relay.closed.is_cancelled());
        drop(relays.lock_at(Instant::now() + LEASE));
        assert!(relays.renew(&id).unwrap_err().is_not_found());
        assert!(relay.closed.is_cancelled());
        assert!(relays.all().is_empty());
    }

    #[test]
    fn only_this_machine_can_be_a_target() {
        let relays = Relays::default();
        for target in ["8.8.8.8:80", "169.254.169.254:80", "0.0.0.0:80", "127.0.0.1:0"] {
            relays.register(target.parse().unwrap()).unwrap_err();
        }
        let (id, one) = relays.register("127.0.0.1:80".parse().unwrap()).unwrap();
        let (_, two) = relays.register("[::1]:80".parse().unwrap()).unwrap();
        assert_ne!(one.host, two.host);
        relays.remove(&id);
        assert!(one.closed.is_cancelled() && !two.closed.is_cancelled());
    }
}
