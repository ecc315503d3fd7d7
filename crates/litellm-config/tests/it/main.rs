//! Against the real LiteLLM of both version sets, and the YAML reader that it uses.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that panics has failed; its figures are read"
)]

mod examples;
mod generated;
mod keys;
mod proof;
mod pyyaml;
mod support;
