//! Typed configuration of the LiteLLM proxy.

pub mod yaml;
