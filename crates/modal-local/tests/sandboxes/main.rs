//! Sandboxes as a client meets them: over gRPC, with the generated stubs, in real containers.

mod harness;

mod commands;
mod input;
mod life;
mod names;
mod network;
mod output;
