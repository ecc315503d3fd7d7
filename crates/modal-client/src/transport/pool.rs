//! Connections to command routers, shared between sandboxes.
//!
//! Many sandboxes may have one router address. They share connections, since a connection costs more
//! than a call; but each sandbox keeps several streams open, and servers limit the streams of one
//! connection (often to 100), so a connection is shared by a few sandboxes only. The one leased last stays
//! open until another is leased, so that sandboxes one after the other do not each connect anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::OnceCell;
use tonic::transport::Channel;

use super::{Address, Rules, Trust, connect, unreachable};
use crate::{config::ConfigError, error::Result, retry::RetryPolicy};

/// How many sandboxes share one connection.
const SHARED_BY: usize = 8;
/// A router that does not answer is waited for this long: its machine may still be starting.
/// (`_connect_channel` of Modal's Python client 1.6.4.)
const ROUTER_LIMIT: Duration = Duration::from_secs(310);
/// The pauses between attempts until then.
const PAUSES: RetryPolicy = RetryPolicy {
    retries: u32::MAX,
    first: Duration::from_millis(100),
    cap: Duration::from_secs(10),
};
/// From here on somebody should know why it takes so long.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// A share of a connection; the connection closes when its last share is dropped, the pool's included.
#[derive(Clone)]
pub(crate) struct Lease(Arc<Connection>);

/// A connection to a router, made when it is first needed.
struct Connection {
    address: Address,
    trust: Trust,
    rules: Rules,
    limit: Duration,
    channel: OnceCell<Channel>,
}

impl Lease {
    /// The connection. A new router is waited for; whoever no longer wants to drops the future.
    ///
    /// # Errors
    /// [`Error::Unreachable`](crate::Error::Unreachable): it did not answer within 310 seconds, or its answer will
    /// never be the right one.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        self.0.channel.get_or_try_init(|| self.0.wait()).await.cloned()
    }
}

impl Connection {
    async fn wait(&self) -> Result<Channel> {
        let started = tokio::time::Instant::now();
        let mut warned = false;
        for n in 0.. {
            let failure = match connect(&self.address, &self.rules, self.trust).await {
                Ok(channel) => return Ok(channel),
                Err(failure) => failure,
            };
            let waited = started.elapsed();
            let pause = PAUSES.jittered(n);
            if failure.is_final() || waited + pause > self.limit {
                let addresses = std::slice::from_ref(&self.address);
                return Err(unreachable(addresses, waited, failure.source));
            }
            let address = &self.address;
            if waited > WARN_AFTER && !std::mem::replace(&mut warned, true) {
                tracing::warn!(%address, error = %failure.source, "a sandbox's command router does not answer; it is waited for up to {:?}", self.limit);
            }
            tracing::debug!(%address, error = %failure.source, ?pause, "no command router yet");
            tokio::time::sleep(pause).await;
        }
        std::unreachable!("attempts have no end of their own")
    }
}

/// The connections that are in use.
pub(crate) struct Pool {
    rules: Rules,
    /// The control server is on this machine: its routers need not prove who they are.
    is_local: bool,
    limit: Duration,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_url: HashMap<String, Vec<Weak<Connection>>>,
    /// The one that was leased last. A server that closes it costs nothing: the next call connects again.
    last: Option<Arc<Connection>>,
}

impl Pool {
    /// Of the routers that the server at `control` names.
    pub(crate) fn new(rules: Rules, control: &Address) -> Self {
        let is_local = control.is_local();
        Self { rules, is_local, limit: ROUTER_LIMIT, connections: Mutex::default() }
    }

    /// A connection to `url`, opened at the first call over it.
    ///
    /// # Errors
    /// It is no address, or a plaintext one that does not belong to a control server on this machine.
    pub(crate) fn lease(&self, url: &str) -> Result<Lease, ConfigError> {
        let mut pool = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match pool.free(url) {
            Some(connection) => connection,
            None => pool.add(url, self.connection(url)?),
        };
        pool.last = Some(Arc::clone(&connection));
        Ok(Lease(connection))
    }

    fn connection(&self, url: &str) -> Result<Connection, ConfigError> {
        const SETTING: &str = "the command router's address";
        let address = Address::of_setting(SETTING, url)?;
        let is_plain = !matches!(address, Address::Tcp { tls: true, .. });
        if is_plain && !self.is_local {
            return Err(ConfigError::InvalidValue {
                setting: SETTING,
                value: address.to_string(),
                problem: "expected `https://`, since the access to a sandbox would be readable on the way",
            });
        }
        let trust = if self.is_local { Trust::Unverified } else { Trust::Verified };
        let (rules, limit) = (self.rules.clone(), self.limit);
        Ok(Connection { address, trust, rules, limit, channel: OnceCell::new() })
    }
}

impl Connections {
    /// A connection that may have one more share.
    fn free(&mut self, url: &str) -> Option<Arc<Connection>> {
        let last = self.last.as_ref().map(Arc::downgrade).unwrap_or_default();
        // The pool's own share uses no streams.
        let shares =
            |open: &Weak<Connection>| open.strong_count() - usize::from(open.ptr_eq(&last));
        let open = self.by_url.get(url)?;
        open.iter().filter(|open| shares(open) < SHARED_BY).find_map(Weak::upgrade)
    }

    fn add(&mut self, url: &str, connection: Connection) -> Arc<Connection> {
        self.by_url.retain(|_, open| {
            open.retain(|connection| connection.strong_count() > 0);
            !open.is_empty()
        });
        let connection = Arc::new(connection);
        self.by_url.entry(url.to_owned()).or_default().push(Arc::downgrade(&connection));
        connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, config::Proxies};

    const NOBODY: &str = "http://127.0.0.1:1";

    fn pool(control: &str) -> Pool {
        let rules = Rules::new(&Proxies::default()).unwrap();
        Pool::new(rules, &Address::parse(control).unwrap())
    }

    #[test]
    fn a_connection_is_shared_by_a_few_and_closed_after_the_last() {
        let pool = pool(NOBODY);
        let leases: Vec<_> = (0..=SHARED_BY).map(|_| pool.lease(NOBODY).unwrap()).collect();
        assert!(Arc::ptr_eq(&leases[0].0, &leases[1].0));
        assert!(!Arc::ptr_eq(&leases[0].0, &leases[SHARED_BY].0));
        let gone = Arc::downgrade(&leases[0].0);
        drop(leases);
        assert!(gone.upgrade().is_none());
    }

    #[test]
    fn the_last_connection_is_there_for_the_next_sandbox() {
        let pool = pool(NOBODY);
        let first = pool.lease(NOBODY).unwrap();
        let connection = Arc::downgrade(&first.0);
        drop(first);
        let next: Vec<_> = (0..=SHARED_BY).map(|_| pool.lease(NOBODY).unwrap()).collect();
        assert!(connection.ptr_eq(&Arc::downgrade(&next[SHARED_BY - 1].0)));
        assert!(!connection.ptr_eq(&Arc::downgrade(&next[SHARED_BY].0)));
        drop(next);
        assert!(connection.upgrade().is_none());
    }

    #[test]
    fn only_a_control_server_on_this_machine_may_have_routers_without_proof() {
        for (control, router, trust) in [
            ("http://localhost:1", "https://127.0.0.1:1", Some(Trust::Unverified)),
            ("http://localhost:1", "http://127.0.0.1:1", Some(Trust::Unverified)),
            ("https://api.modal.com", "https://r.modal.host", Some(Trust::Verified)),
            ("https://api.modal.com", "https://127.0.0.1:1", Some(Trust::Verified)),
            ("https://api.modal.com", "http://127.0.0.1:1", None),
        ] {
            let leased = pool(control).lease(router).ok();
            assert_eq!(leased.map(|lease| lease.0.trust), trust, "{router} of {control}");
        }
    }

    #[tokio::test]
    async fn a_router_that_never_answers_is_given_up_after_the_limit() {
        let limit = Duration::from_millis(500);
        let lease = Pool { limit, ..pool(NOBODY) }.lease(NOBODY).unwrap();
        let error = lease.channel().await.unwrap_err();
        assert!(
            matches!(&error, Error::Unreachable { waited, .. } if *waited <= limit),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn waiting_for_a_router_can_be_given_up_and_taken_up_again() {
        let lease = pool(NOBODY).lease(NOBODY).unwrap();
        for _ in 0..2 {
            let waiting = tokio::time::timeout(Duration::from_millis(50), lease.channel());
            assert!(waiting.await.is_err());
        }
    }
}
