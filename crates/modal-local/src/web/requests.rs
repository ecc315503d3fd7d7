//! What servers were asked lately, for lists and counts.
//!
//! Kept in memory: requests come in thousands, and nobody is promised them after a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::FunctionId;

/// Requests that are remembered of each server; the oldest go first.
const KEPT: usize = 20_000;

/// A request that was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RequestRecord {
    /// The path, without its query.
    pub(crate) route: String,
    /// When it came, in seconds since 1970.
    pub(crate) at: f64,
    /// Empty if it reached no container.
    pub(crate) task: String,
    /// Until the last byte of the answer, in seconds.
    pub(crate) duration: f64,
    pub(crate) status: u16,
}

/// The latest requests of every server.
#[derive(Default)]
pub(crate) struct RequestLog {
    servers: Mutex<HashMap<FunctionId, VecDeque<RequestRecord>>>,
}

impl RequestLog {
    pub(crate) fn add(&self, server: &FunctionId, request: RequestRecord) {
        let mut servers = self.lock();
        let requests = servers.entry(server.clone()).or_default();
        if requests.len() >= KEPT {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    /// The latest ones, newest first.
    pub(crate) fn tail(&self, server: &FunctionId, most: usize) -> Vec<RequestRecord> {
        let mut requests = self.between(server, f64::MIN, f64::MAX);
        requests.reverse();
        requests.truncate(most);
        requests
    }

    /// Those that came from `since` on and before `until`, oldest first.
    pub(crate) fn between(
        &self,
        server: &FunctionId,
        since: f64,
        until: f64,
    ) -> Vec<RequestRecord> {
        let servers = self.lock();
        let all = servers.get(server).into_iter().flatten();
        let mut requests: Vec<RequestRecord> =
            all.filter(|it| it.at >= since && it.at < until).cloned().collect();
        // They were added when they ended.
        requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        requests
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionId, VecDeque<RequestRecord>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_requests_of_each_server_are_found_by_when_they_came() {
        let (log, server, other) =
            (RequestLog::default(), FunctionId::random(), FunctionId::random());
        let request = |at: f64| RequestRecord {
            route: "/".into(),
            at,
            task: String::new(),
            duration: 1.0,
            status: 200,
        };
        [3.0, 1.0, 2.0].into_iter().for_each(|at| log.add(&server, request(at)));
        log.add(&other, request(1.5));
        let times =
            |requests: Vec<RequestRecord>| requests.iter().map(|it| it.at).collect::<Vec<_>>();
        assert_eq!(times(log.tail(&server, 2)), [3.0, 2.0]);
        assert_eq!(times(log.between(&server, 1.0, 3.0)), [1.0, 2.0]);
        (0..KEPT).for_each(|at| log.add(&other, request(at as f64 + 10.0)));
        assert_eq!(log.tail(&other, usize::MAX).len(), KEPT);
    }
}
