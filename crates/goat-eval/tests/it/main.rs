//! The agent as a program, against a scripted model on loopback.

mod conversation;
mod endings;
mod failures;
mod secrets;
mod support;
