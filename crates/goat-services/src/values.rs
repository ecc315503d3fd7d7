//! Where a value comes from.

use std::collections::BTreeMap;

use secret_string::SecretString;
use serde::Serialize;

use crate::env_file::EnvFile;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the file.
    File,
    /// In the environment of the process.
    Environment,
    /// Somebody typed it.
    Typed,
    /// Nobody gave it: the default.
    Default,
    /// Nobody gave it: made anew.
    Made,
}

impl Source {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::File => "from the file",
            Self::Environment => "from the environment",
            Self::Typed => "typed",
            Self::Default => "default",
            Self::Made => "generated",
        }
    }
}

/// Values that somebody gave: in the file first, then in the environment, then by typing.
#[derive(Debug, Clone, Default)]
pub struct Values {
    found: BTreeMap<String, (SecretString, Source)>,
}

impl Values {
    /// Looks the names up.
    pub fn find<'a>(
        names: impl IntoIterator<Item = &'a str>,
        file: &EnvFile,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let find = |name: &str| {
            let in_file = file.get(name).map(|value| (value.clone(), Source::File));
            let in_environment = || {
                Some((environment(name).filter(|it| !it.is_empty())?.into(), Source::Environment))
            };
            in_file.or_else(in_environment)
        };
        let found = names.into_iter().filter_map(|name| Some((name.to_owned(), find(name)?)));
        Self { found: found.collect() }
    }

    /// Adds one that was typed.
    pub fn typed(&mut self, name: &str, value: SecretString) {
        self.found.insert(name.to_owned(), (value, Source::Typed));
    }

    /// A value and where it is from.
    pub fn get(&self, name: &str) -> Option<(&SecretString, Source)> {
        self.found.get(name).map(|(value, source)| (value, *source))
    }
}
