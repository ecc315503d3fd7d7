//! Typed configuration of the LiteLLM proxy: build, read, lint, render.

pub mod hook;
mod known;
pub mod lint;
pub mod rule;
pub mod version;
pub mod yaml;

pub use crate::{
    lint::{Context, Environment, Report, lint},
    version::{Version, VersionSet},
    yaml::Document,
};
