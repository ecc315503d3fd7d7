//! A gRPC server on loopback that does what a test tells it, in raw messages.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod breaker;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod recording;
pub(crate) mod spans;

use modal_client::{Client, Config};

/// A client of the server at `url`, with the token that the recordings were made with.
pub(crate) async fn client(url: &str) -> Client {
    Client::connect(Config::new(url, "ak-wire-test", "as-wire-test")).await.unwrap()
}
