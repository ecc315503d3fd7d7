//! What the client sends and makes of answers, against a server on loopback that writes down requests.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod ingestion;
mod local;
mod recordings;
mod server;
