//! The agent as a program, against a scripted model on loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod context;
mod conversation;
mod endings;
mod failures;
mod foreign;
mod limits;
mod mcp;
mod misbehaviour;
mod multi_turn;
mod quirks;
mod replay;
mod secrets;
mod signals;
mod skills;
mod support;
mod tools;
mod wire;
