//! The resolver at 10.0.2.3: asks the machine's resolvers what the policy lets the sandbox ask.
//!
//! A name that the policy does not list gets "no such name" without a packet leaving, because a question can
//! carry data out as well as an answer in. What listed names resolve to is remembered: it is what a policy by
//! name opens. The machine's resolvers may lie on any address, loopback too: the gateway asks them itself, so
//! that exception opens nothing else.

mod message;
mod upstream;

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::gateway::Shared;
use crate::policy::Policy;
pub(crate) use message::Answer;
use message::{Query, Rcode};
pub(crate) use upstream::Upstream;

/// How the question came, and so how it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

/// The answer to `question`; `None` if it is no question at all.
pub(crate) async fn answer(shared: &Shared, question: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let query = match Query::parse(question) {
        Ok(query) => query,
        Err(refusal) => return refusal,
    };
    let policy = shared.policy();
    if !policy.names(query.name()) {
        tracing::debug!(name = query.name(), "name not resolved: not on the allow-list");
        let code = if *policy == Policy::Closed { Rcode::Refused } else { Rcode::NoSuchName };
        return Some(query.reply(code));
    }
    match shared.upstream().ask(&query, carrier).await {
        Some(reply) => {
            shared.learn(query.name(), message::addresses(&reply));
            Some(reply)
        }
        None => Some(query.reply(Rcode::ServerFailure)),
    }
}

/// Serves one TCP connection of the resolver: messages preceded by their length (RFC 1035, 4.2.2).
pub(crate) async fn serve(shared: Arc<Shared>, mut stream: UnixStream) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some(reply) = answer(&shared, &question, Carrier::Tcp).await else { return };
        let Some(framed) = message::framed(&reply) else { return };
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}
