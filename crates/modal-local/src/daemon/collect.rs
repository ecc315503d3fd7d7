//! Collecting garbage in a running server.

use super::probe;
use super::record::ServerRecord;
use crate::error::{Error, Result};
use crate::gc::Collected;
use crate::state_dir::StateDir;

/// Has the directory's server collect garbage, cached image layers that nothing needs included.
/// `None` if no server runs.
pub async fn collect(dir: &StateDir) -> Result<Option<Collected>> {
    let Some(record) = ServerRecord::read(dir).filter(ServerRecord::is_same_process) else {
        return Ok(None);
    };
    let failed = |message: String| Error::Daemon { message, log: dir.log() };
    let answer = probe::long_request(&record, "POST", "/_local/gc").await;
    let answer = answer.map_err(|error| failed(format!("garbage was not collected: {error}")))?;
    let collected = serde_json::from_slice(&answer);
    collected.map(Some).map_err(|error| failed(format!("its answer is not understood: {error}")))
}
