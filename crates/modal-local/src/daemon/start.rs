//! Finding the background server, or starting one.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::record::{Lock, ServerHandle, ServerRecord, build_id_of};
use super::{log, status, stop};
use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// How long a server may take to come up; a slow disk and many migrations take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often we look.
const POLL: Duration = Duration::from_millis(20);
/// How much of the log an error shows.
const LOG_TAIL: usize = 1_500;

/// The directory's server; if none runs, starts one with `command` and waits until it serves.
///
/// `command` must come to [`serve`](super::serve) with [`ServeOptions::detach`] set and the same
/// state directory; its output goes to the log. A server of another build than the program of
/// `command` is replaced if it does nothing, and refused if it does.
///
/// [`ServeOptions::detach`]: super::ServeOptions::detach
pub async fn ensure_running(dir: &StateDir, mut command: Command) -> Result<ServerHandle> {
    dir.create()?;
    let wanted = build_id_of(Path::new(command.get_program()));
    let until = Instant::now() + PATIENCE;
    let mut child: Option<Child> = None;
    loop {
        if let Some(handle) = discover(dir, wanted.as_deref()).await? {
            return Ok(handle);
        }
        if let Some(ended) = ended(&mut child) {
            // Another command may have been faster: then its server holds the lock.
            if !Lock::is_held(dir)? {
                return Err(failed(dir, &format!("the local server ended at once ({ended})")));
            }
        }
        if child.is_none() && !Lock::is_held(dir)? {
            child = Some(spawn(dir, &mut command)?);
        }
        if Instant::now() >= until {
            return Err(failed(dir, "the local server does not come up"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The server that runs and answers, unless it is of another build and idle: that one is stopped.
async fn discover(dir: &StateDir, wanted: Option<&str>) -> Result<Option<ServerHandle>> {
    if !Lock::is_held(dir)? {
        return Ok(None);
    }
    let Some(record) = ServerRecord::read(dir).filter(ServerRecord::is_same_process) else {
        return Ok(None);
    };
    let answer = match status::ask(dir, &record).await {
        Ok(answer) => answer,
        // It may be on its way out; the loop looks again until its time is over.
        Err(error) => {
            tracing::debug!(%error, "a server is recorded and does not answer");
            return Ok(None);
        }
    };
    if wanted.is_none_or(|wanted| answer.build_id == wanted) {
        return Ok(Some(record.handle()));
    }
    if answer.is_busy() {
        let message = format!(
            "a local server of another build (process {}) is running {} sandboxes, {} containers of \
             functions and {} builds; wait for them, or end them with it: `cargo xtask local stop` \
             (deployed apps start again with the next command)",
            answer.pid, answer.sandboxes, answer.functions, answer.builds
        );
        return Err(Error::Daemon { message, log: dir.log() });
    }
    tracing::info!(pid = answer.pid, "replacing an idle server of another build");
    stop::stop(dir).await?;
    Ok(None)
}

fn spawn(dir: &StateDir, command: &mut Command) -> Result<Child> {
    let log = log::open(dir)?;
    let errors = log.try_clone().map_err(Error::file("open", dir.log()))?;
    command.current_dir(dir.root()).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(|source| Error::Daemon {
        message: format!("the local server cannot be started: {source}"),
        log: dir.log(),
    })
}

/// How the child ended, if it did.
fn ended(child: &mut Option<Child>) -> Option<String> {
    let status = child.as_mut()?.try_wait().ok().flatten()?;
    *child = None;
    Some(status.to_string())
}

fn failed(dir: &StateDir, what: &str) -> Error {
    let log = std::fs::read(dir.log()).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]);
    let tail = tail.trim();
    let message =
        if tail.is_empty() { what.to_owned() } else { format!("{what}. It said last:\n{tail}\n") };
    Error::Daemon { message, log: dir.log() }
}
