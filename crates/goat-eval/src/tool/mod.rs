//! What the model can do: one module a tool, and what they share.
//!
//! A tool is a [`Tool`]; those that a run offers are in a [`Registry`]. Limits are constants of each tool's module.
//! Results are text for the model: an error says what was wrong and what to do instead.

mod arguments;
pub(crate) mod atomic;
pub mod bash;
mod diff;
mod edit;
mod encoding;
mod error;
mod glob;
mod grep;
pub(crate) mod marked;
pub(crate) mod read;
mod registry;
pub mod text;
mod walk;
mod workspace;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use arguments::Arguments;
pub use error::ToolError;
pub use marked::Full;
pub use registry::Registry;
pub use workspace::Workspace;

use crate::model::ToolDefinition;

/// How a tool is offered to the model.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// The name it is called by.
    pub name: String,
    /// What it does and how to use it.
    pub description: String,
    /// The same in one sentence, for models that need it short.
    pub brief: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
    /// Whether it changes nothing, so that several calls may run at once.
    pub read_only: bool,
}

impl ToolSpec {
    /// The form in which it is sent.
    pub fn definition(&self, brief: bool) -> ToolDefinition {
        let description = if brief { &self.brief } else { &self.description };
        ToolDefinition {
            name: self.name.clone(),
            description: description.clone(),
            parameters: self.parameters.clone(),
        }
    }
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOutput {
    /// What the model is told.
    pub text: String,
    /// Whether it is about a failure.
    pub is_error: bool,
    /// What there was before a tool cut it, where it did.
    pub full: Option<Full>,
}

impl ToolOutput {
    /// The result of a call that worked.
    pub fn ok(text: impl Into<String>) -> Self {
        ToolOutput { text: text.into(), is_error: false, full: None }
    }

    /// The result of a call that did not.
    pub fn error(text: impl Into<String>) -> Self {
        ToolOutput { text: text.into(), is_error: true, full: None }
    }
}

/// Something that the model can do.
#[async_trait]
pub trait Tool: Send + Sync {
    /// How it is offered.
    fn spec(&self) -> ToolSpec;

    /// Does it. The future may be dropped at any point; what it started must not outlive the run.
    async fn call(&self, arguments: Arguments) -> Result<ToolOutput, ToolError>;
}

/// Time for a tool's work on files. Only files that block (`/proc/kmsg`, a dead network mount) take so long.
const FILE_PATIENCE: Duration = Duration::from_secs(90);

/// Runs file work on a thread of its own, so that signals and time-outs are served meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ToolError> + Send + 'static,
) -> Result<T, ToolError> {
    let failed = |what: &str| Err(ToolError::Failed(what.into()));
    match tokio::time::timeout(FILE_PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => failed("the tool itself broke on this"),
        Err(_) => failed("the file system gave no answer within 90 seconds"),
    }
}
