//! The agent as a program, against a scripted model on loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod conversation;
mod endings;
mod failures;
mod foreign;
mod mcp;
mod multi_turn;
mod secrets;
mod skills;
mod support;
