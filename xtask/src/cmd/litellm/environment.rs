//! Variables as the proxy will have them, and the catalogue.

use std::{collections::BTreeMap, fs, path::PathBuf};

use litellm_config::Catalogue;

use crate::{context::Context, exit::UsageError};

/// Where variables and models come from.
#[derive(clap::Args)]
pub(crate) struct Sources {
    /// File of lines NAME=value whose variables count as set [default: .env where there is one]
    #[arg(long, value_name = "FILE", env = "GOAT_ENV_FILE")]
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
        let path = match &self.env_file {
            Some(path) => path.clone(),
            None => {
                let default = context.workspace.path(".env");
                if !default.is_file() {
                    return Ok(BTreeMap::new());
                }
                default
            }
        };
        let text = fs::read(&path)
            .map_err(|error| UsageError(format!("{} cannot be read: {error}", path.display())))?;
        let mut variables = BTreeMap::new();
        for line in dotenvy::from_read_iter(&*text) {
            // The parser's own error would quote the line, value and all.
            let (name, value) = line.map_err(|_| {
                UsageError(format!("{} has a line that is not NAME=value", path.display()))
            })?;
            if !value.is_empty() {
                variables.insert(name, value);
            }
        }
        Ok(variables)
    }
}
