//! Typed configuration of the LiteLLM proxy: build, read, lint, render.
//!
//! - [`Catalogue`]: which models there are, who serves them, what they cost.
//! - [`generate`](generate::generate): the configuration of a proxy for the providers that are configured.
//! - [`ProxyConfig`]: a configuration as types, over the [YAML](yaml) that the proxy reads, comments and all.
//! - [`lint`](lint::lint): what the real proxy would do with a file, by 43 [rules](rule::RULES).
//! - [`VersionSet`]: versions of LiteLLM and Langfuse that were proved together; other combinations are
//!   [checked](version::Combination::check).
//! - [`hook`]: the file that checks sandboxes' keys inside of the proxy.
//!
//! ```
//! use litellm_config::{Catalogue, Context, VersionSet, generate::{Wanted, generate}, lint};
//!
//! let set = VersionSet::default_set();
//! let catalogue = Catalogue::builtin()?;
//! let config = generate(&Wanted::new(set, &catalogue, |variable| variable == "OPENAI_API_KEY"));
//! let report = lint::lint(&config.render(), &Context::new(set));
//! assert!(report.findings.is_empty());
//! # Ok::<(), litellm_config::CatalogueError>(())
//! ```

mod catalogue;
pub mod config;
pub mod generate;
pub mod hook;
mod known;
pub mod lint;
pub mod rule;
pub mod version;
pub mod yaml;

pub use crate::{
    catalogue::{Catalogue, CatalogueError, Model, Offer, Provider, TOKENS_OF_A_PRICE, Via},
    config::{ModelEntry, ProxyConfig, Value},
    lint::{Context, Environment, Report},
    version::{Sends, Version, VersionSet},
    yaml::Document,
};
