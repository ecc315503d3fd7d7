//! A server of Modal's API that does no work, and the barest client of it: what a client's own time is measured against.
//!
//! [`serve`] answers what creates a sandbox, starts a command in it and waits for its end, each at once and from
//! nothing, so that what a client takes is the client's. [`RawClient`] sends the same three requests through the
//! generated stubs alone, without authentication, retries or any other comfort: no client over the same stack is quicker.

mod client;
mod error;
mod server;

pub use crate::{
    client::RawClient,
    error::{Error, Result},
    server::serve,
};
