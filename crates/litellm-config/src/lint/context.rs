//! What a linter has to know besides the file.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use crate::version::{Version, VersionSet};

/// What is known of where the file will be used. What is not known, no rule holds against the file.
#[derive(Clone, Debug)]
pub struct Context {
    /// The proxy's version.
    pub litellm: Version,
    /// The version of the Python package `langfuse` beside it; `None`: it is not installed.
    pub langfuse_sdk: Option<Version>,
    /// Major version of the Langfuse server that traces go to.
    pub langfuse_server: Option<u32>,
    /// The proxy's environment.
    pub environment: Environment,
    /// Ends of host names whose servers sleep while nobody asks them, as `.sleeps.example`. A model can also say so
    /// itself: `model_info.scale_to_zero: true`.
    pub sleeping_hosts: Vec<String>,
    /// How long such a server may take to wake.
    pub start_up: Duration,
    /// Workers of the proxy (`--num_workers`).
    pub workers: Option<u32>,
    /// Where the file lies: what it includes lies beside it.
    pub directory: Option<PathBuf>,
}

impl Context {
    /// For a version set, with nothing known of the environment.
    pub fn new(set: &VersionSet) -> Self {
        Self {
            litellm: set.litellm,
            langfuse_sdk: Some(set.langfuse_sdk),
            langfuse_server: None,
            environment: Environment::default(),
            sleeping_hosts: Vec::new(),
            start_up: Duration::from_secs(600),
            workers: None,
            directory: None,
        }
    }
}

/// Variables of the proxy's process. Values are looked at, never shown.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    is_complete: bool,
}

impl Environment {
    /// All that the proxy will have: what is not here is not set.
    pub fn complete(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: variables.into_iter().collect(), is_complete: true }
    }

    /// Some of what the proxy may have: what is not here may yet be set.
    pub fn partial(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: variables.into_iter().collect(), is_complete: false }
    }

    /// The value, if it is known and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether it is known to be missing.
    pub fn lacks(&self, name: &str) -> bool {
        self.is_complete && self.get(name).is_none()
    }

    /// Whether it is known which variables there are.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Environment")
            .field("names", &names)
            .field("is_complete", &self.is_complete)
            .finish()
    }
}
