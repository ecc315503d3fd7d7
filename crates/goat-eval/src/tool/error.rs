//! Why a tool could not do what it was asked; the model reads it.

use std::{io, path::PathBuf};

/// Why a tool could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The arguments are no JSON object.
    #[error("the arguments are not a JSON object ({reason}): {excerpt}")]
    NotJson {
        /// What the parser says.
        reason: String,
        /// How they begin.
        excerpt: String,
    },
    /// An argument is missing.
    #[error("parameter `{0}` is required")]
    Missing(&'static str),
    /// An argument has the wrong type.
    #[error("parameter `{name}` must be {expected}")]
    WrongType {
        /// The parameter.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// No tool has this name.
    #[error("there is no tool `{name}`; the tools are {known}")]
    NoSuchTool {
        /// What was called.
        name: String,
        /// What there is.
        known: String,
    },
    /// The system said no.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else, in a sentence.
    #[error("{0}")]
    Failed(String),
}

impl ToolError {
    /// For `map_err`: the system's error on doing something with a file.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| ToolError::Io { action, path, source }
    }
}
