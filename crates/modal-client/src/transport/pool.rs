//! Connections to command routers, shared between sandboxes.
//!
//! Many sandboxes may have one router address. They share connections, since a connection costs more
//! than a call; but each sandbox keeps several streams open, and servers limit the streams of one
//! connection (often to 100), so a connection is shared by a few sandboxes only. The one leased last stays
//! open until another is leased, so that sandboxes one after the other do not each connect anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tonic::transport::Channel;

use super::endpoint;
use crate::config::ConfigError;

/// How many sandboxes share one connection.
const SHARED_BY: usize = 8;

/// A share of a connection; the connection closes when its last share is dropped, the pool's included.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<Channel>);

impl Lease {
    pub(crate) fn channel(&self) -> Channel {
        (*self.0).clone()
    }
}

/// The connections that are in use.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    by_url: HashMap<String, Vec<Weak<Channel>>>,
    /// The one that was leased last. A server that closes it costs nothing: the next call connects again.
    last: Option<Arc<Channel>>,
}

impl Pool {
    /// A connection to `url`, opened at the first call over it.
    pub(crate) fn lease(&self, url: &str) -> Result<Lease, ConfigError> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match pool.free(url) {
            Some(channel) => channel,
            None => pool.open(url)?,
        };
        pool.last = Some(Arc::clone(&channel));
        Ok(Lease(channel))
    }
}

impl Connections {
    /// A connection that may have one more share.
    fn free(&mut self, url: &str) -> Option<Arc<Channel>> {
        let last = self.last.as_ref().map(Arc::downgrade).unwrap_or_default();
        // The pool's own share uses no streams.
        let shares = |open: &Weak<Channel>| open.strong_count() - usize::from(open.ptr_eq(&last));
        let open = self.by_url.get(url)?;
        open.iter().filter(|open| shares(open) < SHARED_BY).find_map(Weak::upgrade)
    }

    fn open(&mut self, url: &str) -> Result<Arc<Channel>, ConfigError> {
        self.by_url.retain(|_, open| {
            open.retain(|channel| channel.strong_count() > 0);
            !open.is_empty()
        });
        let channel = Arc::new(endpoint(url)?.connect_lazy());
        self.by_url.entry(url.to_owned()).or_default().push(Arc::downgrade(&channel));
        Ok(channel)
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
    #[tokio::test]
    async fn the_last_connection_is_there_for_the_next_sandbox() {
        let pool = Pool::default();
        let first = pool.lease("http://127.0.0.1:1").unwrap();
        let connection = Arc::downgrade(&first.0);
        drop(first);
        let next: Vec<_> =
            (0..=SHARED_BY).map(|_| pool.lease("http://127.0.0.1:1").unwrap()).collect();
        assert!(connection.ptr_eq(&Arc::downgrade(&next[SHARED_BY - 1].0)));
        assert!(!connection.ptr_eq(&Arc::downgrade(&next[SHARED_BY].0)));
        drop(next);
        assert!(connection.upgrade().is_none());
    }
}
