//! The server's verdict on each event of a batch.

use serde::Deserialize;
use serde_json::Value;

use crate::json::Extra;

/// What `POST /ingestion` answers, with status 207.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct IngestionAnswer {
    /// Events that were taken.
    pub successes: Vec<ItemSuccess>,
    /// Events that were not.
    pub errors: Vec<ItemError>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An event that was taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ItemSuccess {
    /// The event's id.
    pub id: String,
    /// 201.
    pub status: u16,
}

/// An event that was not taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ItemError {
    /// The event's id; `unknown` where the server could read none.
    pub id: String,
    /// 400, 401, 404 or 500.
    pub status: u16,
    /// What is wrong.
    #[serde(default)]
    pub message: Option<String>,
    /// More of it: text, or a list of what is wrong with the fields.
    #[serde(default)]
    pub error: Option<Value>,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ItemError {
    /// Whether sending the event again may help.
    pub fn is_transient(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// All its words in one line.
    pub fn words(&self) -> String {
        let error = self.error.as_ref().map(crate::json::as_text);
        let words: Vec<&str> = self.message.iter().chain(&error).map(String::as_str).collect();
        if words.is_empty() { "no reason was given".to_owned() } else { words.join(": ") }
    }
}
