//! Getting the server's token through a browser: `modal token new` and its like.
//!
//! A client without token begins a flow and waits; a page of this server asks for the flow's code and
//! confirms it. The page can be opened by anybody on this machine, so the code is told only to who
//! can read the state directory: it lies in `login-code` there, and the page says so.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::durable;
use crate::error::{Error, Result};
use crate::ids::random_suffix;
use crate::state_dir::StateDir;

/// How long a flow may take.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// Flows at a time; strangers can begin them, so that the oldest makes room.
const MAX_FLOWS: usize = 16;
/// Wrong codes until a flow is over.
const MAX_GUESSES: u32 = 5;
/// Characters of a code, about 47 bits.
const CODE_LENGTH: usize = 8;

/// The flows under way.
pub(crate) struct Logins {
    code_file: PathBuf,
    flows: Mutex<HashMap<String, Flow>>,
}

struct Flow {
    code: String,
    wait_secret: String,
    guesses: u32,
    began: Instant,
    confirmed: watch::Sender<bool>,
}

/// A flow that has begun.
pub(crate) struct Begun {
    pub(crate) id: String,
    pub(crate) wait_secret: String,
}

/// What came of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Confirmed,
    Wrong,
    /// There is no such flow, or it has seen too many wrong codes.
    Over,
}

impl Logins {
    pub(crate) fn new(dir: &StateDir) -> Self {
        Self { code_file: dir.login_code(), flows: Mutex::default() }
    }

    /// Where the code of the newest flow is.
    pub(crate) fn code_file(&self) -> &std::path::Path {
        &self.code_file
    }

    /// Begins a flow and writes its code down.
    pub(crate) fn begin(&self) -> Result<Begun> {
        let code = random_suffix()[..CODE_LENGTH].to_owned();
        let begun = Begun { id: format!("tf-{}", random_suffix()), wait_secret: random_suffix() };
        let flow = Flow {
            code: code.clone(),
            wait_secret: begun.wait_secret.clone(),
            guesses: 0,
            began: Instant::now(),
            confirmed: watch::Sender::new(false),
        };
        let mut flows = self.lock();
        durable::write(&self.code_file, format!("{code}\n").as_bytes(), 0o600)?;
        flows.retain(|_, flow| flow.began.elapsed() < LIFE);
        if flows.len() >= MAX_FLOWS {
            let oldest = flows.iter().min_by_key(|(_, flow)| flow.began).map(|(id, _)| id.clone());
            oldest.and_then(|id| flows.remove(&id));
        }
        flows.insert(begun.id.clone(), flow);
        Ok(begun)
    }

    /// Whether the flow waits for its code.
    pub(crate) fn is_open(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|flow| flow.began.elapsed() < LIFE)
    }

    /// Tries a code.
    pub(crate) fn confirm(&self, id: &str, code: &str) -> Verdict {
        let mut flows = self.lock();
        let Some(flow) = flows.get_mut(id).filter(|flow| flow.began.elapsed() < LIFE) else {
            return Verdict::Over;
        };
        if flow.code.as_bytes().ct_eq(code.trim().as_bytes()).into() {
            flow.confirmed.send_replace(true);
            return Verdict::Confirmed;
        }
        flow.guesses += 1;
        if flow.guesses < MAX_GUESSES {
            return Verdict::Wrong;
        }
        flows.remove(id);
        Verdict::Over
    }

    /// Waits until a flow is confirmed; whether it was, within `limit`. A flow is good for one answer.
    pub(crate) async fn wait(&self, id: &str, wait_secret: &str, limit: Duration) -> Result<bool> {
        let mut confirmed = {
            let flows = self.lock();
            let known = flows
                .get(id)
                .filter(|flow| flow.wait_secret.as_bytes().ct_eq(wait_secret.as_bytes()).into());
            known.ok_or_else(|| Error::not_found("token flow", id))?.confirmed.subscribe()
        };
        let waited = tokio::time::timeout(limit, confirmed.wait_for(|it| *it)).await;
        match waited.map(|done| done.is_ok()) {
            Ok(true) => Ok(self.lock().remove(id).is_some()),
            Ok(false) => Err(Error::not_found("token flow", id)),
            Err(_) => Ok(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(dir: &tempfile::TempDir) -> Logins {
        Logins::new(&StateDir::new(dir.path()))
    }

    fn code(logins: &Logins) -> String {
        std::fs::read_to_string(logins.code_file()).unwrap()
    }

    #[tokio::test]
    async fn who_can_read_the_state_directory_confirms_and_who_began_gets_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(&dir);
        let flow = logins.begin().unwrap();
        assert!(!logins.wait(&flow.id, &flow.wait_secret, Duration::ZERO).await.unwrap());
        logins.wait(&flow.id, "another", Duration::ZERO).await.unwrap_err();
        assert_eq!(logins.confirm(&flow.id, &code(&logins)), Verdict::Confirmed);
        assert!(logins.wait(&flow.id, &flow.wait_secret, Duration::ZERO).await.unwrap());
        logins.wait(&flow.id, &flow.wait_secret, Duration::ZERO).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_code_cannot_be_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(&dir);
        let flow = logins.begin().unwrap();
        for _ in 1..MAX_GUESSES {
            assert_eq!(logins.confirm(&flow.id, "wrong"), Verdict::Wrong);
        }
        assert_eq!(logins.confirm(&flow.id, "wrong"), Verdict::Over);
        assert_eq!(logins.confirm(&flow.id, &code(&logins)), Verdict::Over);
    }
}
