//! A gRPC server on loopback that does what a test tells it, in raw messages.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod breaker;
pub(crate) mod raw;
pub(crate) mod recording;

use modal_client::{Client, Config};

/// A client of the server at `url`.
pub(crate) async fn client(url: &str) -> Client {
    Client::connect(Config::new(url, "ak-test", "as-test")).await.unwrap()
}
