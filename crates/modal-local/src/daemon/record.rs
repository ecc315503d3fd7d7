//! `server.json` and the lock: how a server is found.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::FlockOperation;
use secret_string::SecretString;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::server::TokenPair;
use crate::state_dir::StateDir;

/// The version of `server.json`.
const FORMAT: u32 = 1;

/// What `server.json` holds. Only its owner can read it.
#[derive(Serialize, Deserialize)]
pub(super) struct ServerRecord {
    pub(super) format: u32,
    pub(super) pid: i32,
    /// When the process started, in the system's own unit: tells it from a later one of that pid.
    pub(super) start_time: u64,
    pub(super) port: u16,
    pub(super) url: String,
    pub(super) token_id: String,
    pub(super) token_secret: String,
    pub(super) version: String,
    pub(super) build_id: String,
}

/// How to reach a running server.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    /// For `MODAL_SERVER_URL`: `http://127.0.0.1:PORT`.
    pub url: String,
    /// For `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET`.
    pub token: TokenPair,
    /// Its process.
    pub pid: i32,
}

impl ServerRecord {
    /// About this process.
    pub(super) fn new(url: &str, token: &TokenPair) -> Self {
        let pid = rustix::process::getpid().as_raw_pid();
        Self {
            format: FORMAT,
            pid,
            start_time: start_time(pid).unwrap_or(0),
            port: url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0),
            url: url.to_owned(),
            token_id: token.id.clone(),
            token_secret: token.secret.expose().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_id: build_id().to_owned(),
        }
    }

    pub(super) fn write(&self, dir: &StateDir) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::invalid(format!("server.json: {error}")))?;
        durable::write(&dir.server_json(), &text, 0o600)
    }

    /// The record of the directory; `None` if there is none, or one of another format.
    pub(super) fn read(dir: &StateDir) -> Option<Self> {
        let text = std::fs::read(dir.server_json()).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        (record.format == FORMAT).then_some(record)
    }

    pub(super) fn handle(&self) -> ServerHandle {
        let token =
            TokenPair::new(self.token_id.clone(), SecretString::from(self.token_secret.as_str()));
        ServerHandle { url: self.url.clone(), token, pid: self.pid }
    }

    /// Whether the process is still the one that wrote this.
    pub(super) fn is_same_process(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Held for as long as a server lives; the kernel frees it, however the server ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock; `None` if another process has it, be it a server or one that only looks.
    pub(super) fn take(dir: &StateDir) -> Result<Option<Self>> {
        lock(&dir.lock(), FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether a server holds the lock. Those who look share it for a moment.
    pub(super) fn is_held(dir: &StateDir) -> Result<bool> {
        if !dir.lock().exists() {
            return Ok(false);
        }
        Ok(lock(&dir.lock(), FlockOperation::NonBlockingLockShared)?.is_none())
    }
}

fn lock(path: &Path, operation: FlockOperation) -> Result<Option<Lock>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("open", path))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(Error::file("lock", path)(errno.into())),
    }
}

/// Names this build of the program: a server of another one may behave differently.
pub(super) fn build_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let own = std::env::current_exe().ok().and_then(|path| build_id_of(&path));
        own.unwrap_or_else(|| "unknown".to_owned())
    })
}

/// The [`build_id`] that a program file would have; `None` if there is no such file.
pub(super) fn build_id_of(program: &Path) -> Option<String> {
    let it = std::fs::metadata(program).ok()?;
    Some(format!("{:x}-{:x}-{:x}", it.size(), it.mtime(), it.mtime_nsec()))
}

/// When a process started: field 22 of its `stat`, counted after the name, which may hold anything.
#[cfg(target_os = "linux")]
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Without `/proc` a pid alone must do.
#[cfg(not(target_os = "linux"))]
fn start_time(pid: i32) -> Option<u64> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    rustix::process::test_kill_process(pid).ok().map(|()| 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_record_survives_the_trip_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let token = TokenPair::new("ak-1", "as-1");
        ServerRecord::new("http://127.0.0.1:4321", &token).write(&state).unwrap();
        let record = ServerRecord::read(&state).unwrap();
        assert_eq!((record.port, record.handle().url.as_str()), (4321, "http://127.0.0.1:4321"));
        assert!(record.is_same_process());
        assert!(!format!("{:?}", record.handle()).contains("as-1"));
        let mode = std::fs::metadata(state.server_json()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert!(!Lock::is_held(&state).unwrap());
        let lock = Lock::take(&state).unwrap().unwrap();
        assert!(Lock::take(&state).unwrap().is_none());
        assert!(Lock::is_held(&state).unwrap());
        drop(lock);
        assert!(!Lock::is_held(&state).unwrap());
    }
}
