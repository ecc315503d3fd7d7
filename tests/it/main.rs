//! End-to-end tests: the real binaries, real sandboxes, the official SDKs.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod arrows;
mod client_examples;
mod conformance;
mod crash;
mod deploy;
mod escape;
mod eval;
mod existing_langfuse;
mod extras;
mod features;
mod flood;
mod infra_test;
mod interrupted_deploy;
mod javascript_sdk;
mod keys;
mod langfuse_4;
mod licences;
mod litellm;
mod local;
mod mishaps;
mod python_sdk;
mod repository_rules;
mod services_commands;
mod setup;
mod setup_terminal;
mod small_disk;
