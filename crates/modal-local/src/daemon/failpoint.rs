//! Ordering the end of a running server at a point of its work.

use super::probe;
use super::record::ServerRecord;
use crate::error::{Error, Result};
use crate::failpoint::Point;
use crate::state_dir::StateDir;

/// Has the directory's server end itself by SIGKILL when it comes to `point` for the `count`th time.
///
/// # Errors
///
/// Where none runs, or one that was started without [`crate::failpoint::VARIABLE`].
pub async fn order_end(dir: &StateDir, point: Point, count: u32) -> Result<()> {
    let failed = |message: String| Error::Daemon { message, log: dir.log() };
    let record = ServerRecord::read(dir).filter(ServerRecord::is_same_process);
    let record = record.ok_or_else(|| failed("no server runs".to_owned()))?;
    let path = format!("/_local/failpoints/{}/{count}", point.name());
    let answer = probe::request(&record, "POST", &path).await;
    answer.map(drop).map_err(|error| failed(format!("it takes no order: {error}")))
}
