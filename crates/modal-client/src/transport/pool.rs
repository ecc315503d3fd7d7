//! Connections to command routers, shared between sandboxes.
//!
//! Many sandboxes may have one router address. They share connections, since a connection costs more
//! than a call; but each sandbox keeps several streams open, and servers limit the streams of one
//! connection (often to 100), so a connection is shared by a few sandboxes only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tonic::transport::Channel;

use super::endpoint;
use crate::config::ConfigError;

/// How many sandboxes share one connection.
const SHARED_BY: usize = 8;

/// A share of a connection; the connection closes when its last share is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<Channel>);

impl Lease {
    pub(crate) fn channel(&self) -> Channel {
        (*self.0).clone()
    }
}

/// The connections that are in use, by address.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<HashMap<String, Vec<Weak<Channel>>>>);

impl Pool {
    /// A connection to `url`, opened at the first call over it.
    pub(crate) fn lease(&self, url: &str) -> Result<Lease, ConfigError> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = pool.entry(url.to_owned()).or_default();
        open.retain(|channel| channel.strong_count() > 0);
        let free = open
            .iter()
            .filter(|channel| channel.strong_count() < SHARED_BY)
            .find_map(Weak::upgrade);
        if let Some(channel) = free {
            return Ok(Lease(channel));
        }
        let channel = Arc::new(endpoint(url)?.connect_lazy());
        open.push(Arc::downgrade(&channel));
        Ok(Lease(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_shared_by_a_few_and_closed_after_the_last() {
        let pool = Pool::default();
        let leases: Vec<_> =
            (0..=SHARED_BY).map(|_| pool.lease("http://127.0.0.1:1").unwrap()).collect();
        assert!(Arc::ptr_eq(&leases[0].0, &leases[1].0));
        assert!(!Arc::ptr_eq(&leases[0].0, &leases[SHARED_BY].0));
        let gone = Arc::downgrade(&leases[0].0);
        drop(leases);
        assert!(gone.upgrade().is_none());
    }
}
