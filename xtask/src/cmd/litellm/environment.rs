//! Variables as the proxy will have them, and the catalogue.

use std::{collections::BTreeMap, fs, path::PathBuf};

use goat_services::{EnvFile, SecretString};
use litellm_config::Catalogue;

use crate::{cmd::setup::env_path, context::Context, exit::UsageError};

/// Where variables and models come from.
#[derive(clap::Args)]
pub(crate) struct Sources {
    /// File of lines NAME=value whose variables count as set [default: GOAT_ENV_FILE, else .env where there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Another model catalogue than the built-in one
    #[arg(long, value_name = "FILE", env = "GOAT_MODELS")]
    models: Option<PathBuf>,
}

impl Sources {
    /// The catalogue.
    pub(crate) fn catalogue(&self) -> anyhow::Result<Catalogue> {
        let Some(path) = &self.models else { return Ok(Catalogue::builtin()?) };
        let text = fs::read_to_string(path).map_err(|error| {
            UsageError(format!("the model catalogue {} cannot be read: {error}", path.display()))
        })?;
        let unusable =
            |error| UsageError(format!("{}: {}", path.display(), sandbox_runner::chain(&error)));
        Ok(Catalogue::parse(&text).map_err(unusable)?)
    }

    /// The file's variables, then those of this process. Empty ones are not set.
    pub(crate) fn variables(&self, context: &Context) -> anyhow::Result<BTreeMap<String, String>> {
        let mut variables = self.of_file(context)?;
        for (name, value) in std::env::vars().filter(|(_, value)| !value.is_empty()) {
            variables.entry(name).or_insert(value);
        }
        Ok(variables)
    }

    fn of_file(&self, context: &Context) -> anyhow::Result<BTreeMap<String, String>> {
        let path = env_path::existing(self.env_file.as_deref(), context)?;
        let Some(path) = path else { return Ok(BTreeMap::new()) };
        let unusable = |error| UsageError(sandbox_runner::chain(&error));
        let file = EnvFile::read(path).map_err(unusable)?;
        let pair =
            |(name, value): (&str, &SecretString)| (name.to_owned(), value.expose().to_owned());
        Ok(file.iter().map(pair).collect())
    }
}
