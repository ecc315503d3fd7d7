//! Langfuse 2's public API, served from this machine over PostgreSQL, with version 2's own tables.
//!
//! What LiteLLM's callback and the official Python SDK 2.60.10 send and read is served; every other endpoint of
//! version 2 answers 501 with its name, and paths that version 2 does not have answer 404 as it does. Start with
//! [`Settings`] and [`Server::start`]; the binary `langfuse-local` is a thin shell around them.
//!
//! It is a library for tests and the local target, where the real server's image cannot be had: one project, no
//! accounts, no background work. Facts about version 2 are of 2.95.12.

mod api;
mod auth;
mod database;
mod error;
mod ingestion;
mod init;
mod models;
mod page;
mod respond;
mod server;
mod settings;
mod tokens;

pub use crate::{
    error::{Error, Result},
    server::Server,
    settings::{Init, Secret, Settings},
};

/// The version that this server says it is: what it was compared with.
pub const VERSION: &str = "2.95.12";
