//! Sandboxes as a client meets them: over gRPC, with the generated stubs, in real containers.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, and says why")]

mod harness;

mod commands;
mod connect;
mod faults;
mod garbage;
mod hostile;
mod input;
mod life;
mod names;
mod network;
mod output;
mod repeats;
