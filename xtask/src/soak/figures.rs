//! What a soak found: a sentence for people, and the same by name for programs.

use serde::Serialize;
use serde_json::Value;

/// Figures of a soak.
#[derive(Debug)]
pub(crate) struct Figures {
    /// For a closing note.
    pub(crate) words: String,
    /// An object.
    pub(crate) named: Value,
}

impl Figures {
    /// # Errors
    /// `named` can't be written as JSON.
    pub(crate) fn new(words: String, named: impl Serialize) -> anyhow::Result<Self> {
        Ok(Self { words, named: serde_json::to_value(named)? })
    }
}
