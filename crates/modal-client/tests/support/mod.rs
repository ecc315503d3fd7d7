//! What tests of this client share; servers that they tell what to do are those of `wire-replay`.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod breaker;
pub(crate) mod proxy;
pub(crate) mod spans;

#[allow(unused_imports, reason = "each test binary uses a part of this")]
pub(crate) use wire_replay::raw;

use modal_client::{Client, Config};

/// A client of the server at `url`, with the token that the recordings were made with.
pub(crate) async fn client(url: &str) -> Client {
    Client::connect(Config::new(url, "ak-wire-test", "as-wire-test")).await.unwrap()
}
