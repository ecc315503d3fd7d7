//! Stopping the background server.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::probe;
use super::record::{Lock, ServerRecord};
use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// How long a server may take to end its sandboxes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often we look.
const POLL: Duration = Duration::from_millis(50);

/// Stops the directory's server and its sandboxes; returns when it is gone. False if none ran.
pub async fn stop(dir: &StateDir) -> Result<bool> {
    if !Lock::is_held(dir)? {
        return Ok(false);
    }
    let Some(record) = ServerRecord::read(dir) else {
        return if is_gone(dir, PATIENCE).await? { Ok(true) } else { Err(stuck(dir)) };
    };
    if probe::request(&record, "POST", "/_local/stop").await.is_err() {
        signal(&record, Signal::TERM);
    }
    if is_gone(dir, PATIENCE).await? {
        return Ok(true);
    }
    signal(&record, Signal::KILL);
    if is_gone(dir, PATIENCE).await? { Ok(true) } else { Err(stuck(dir)) }
}

/// Signals the process that wrote the record, never another that got its pid.
fn signal(record: &ServerRecord, signal: Signal) {
    if let Some(pid) = Pid::from_raw(record.pid).filter(|_| record.is_same_process()) {
        // It may have ended just now.
        let _ = kill_process(pid, signal);
    }
}

/// Waits until nobody holds the lock.
async fn is_gone(dir: &StateDir, patience: Duration) -> Result<bool> {
    let until = Instant::now() + patience;
    while Lock::is_held(dir)? {
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(true)
}

fn stuck(dir: &StateDir) -> Error {
    Error::Daemon { message: "the server does not stop".to_owned(), log: dir.log() }
}
