//! Tokens of tasks: signed, short-lived, and revoked by the run.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use eval_types::RunId;
use goat_keys::{Claims, PREFIX, RevokedRuns, SigningKeys};
use jiff::Timestamp;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::plan;

/// No token lives longer: a sandbox lives a day at most.
const LONGEST_LIFE: Duration = Duration::from_secs(25 * 60 * 60);

/// What checks tokens.
pub(crate) struct TaskTokens {
    keys: SigningKeys,
    path: PathBuf,
    revoked: Mutex<Revoked>,
}

/// The list as it was when the file had that time and length.
struct Revoked {
    runs: RevokedRuns,
    seen: Option<(SystemTime, u64)>,
}

impl TaskTokens {
    pub(crate) fn read(
        spec: &plan::TaskKeys,
        environment: &Environment,
        door: &str,
    ) -> Result<Self> {
        let wanted_by = format!("door `{door}`");
        let fail = |source| Error::TaskKeys { door: door.to_owned(), source: Box::new(source) };
        let text = environment.need(&spec.signing_keys, &wanted_by)?;
        let keys = SigningKeys::parse(text.expose()).map_err(fail)?;
        let (path, seen) = (spec.revoked.clone(), seen(&spec.revoked));
        let runs = RevokedRuns::load(&path).map_err(fail)?;
        Ok(Self { keys, path, revoked: Mutex::new(Revoked { runs, seen }) })
    }

    /// Whether a key looks like a token of a task.
    pub(crate) fn is_token(key: &[u8]) -> bool {
        key.starts_with(PREFIX.as_bytes())
    }

    /// What a token grants, or why it is not taken. A list that can't be read revokes everything.
    pub(crate) fn verify(&self, token: &[u8]) -> goat_keys::Result<Claims> {
        let token = std::str::from_utf8(token).map_err(|_| goat_keys::Error::NotAToken)?;
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = seen(&self.path);
        if now != revoked.seen {
            *revoked = Revoked { runs: RevokedRuns::load(&self.path)?, seen: now };
        }
        self.keys.verify(token, Timestamp::now(), &revoked.runs)
    }

    /// Takes no token of that run any more, now and after a restart.
    pub(crate) fn revoke(&self, run: RunId) -> goat_keys::Result<()> {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let mut runs = RevokedRuns::load(&self.path)?;
        runs.forget_expired(now);
        runs.add(run, now.saturating_add(LONGEST_LIFE).unwrap_or(Timestamp::MAX));
        runs.save(&self.path)?;
        *revoked = Revoked { runs, seen: seen(&self.path) };
        Ok(())
    }
}

fn seen(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
