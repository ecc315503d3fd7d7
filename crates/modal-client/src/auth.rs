//! The auth token: a short-lived JWT that calls for version 2 sandboxes carry beside the long-lived token.
//!
//! It is fetched at the first call that needs it, renewed when 50 to 60 per cent of the life that was left is over
//! (at random, so that a fleet does not renew at once), and kept while a renewal fails and it is still good; a
//! refusal is no such failure. While one call renews it, the others go on with the old one. Failures back off from
//! 0.5 s to 60 s. A token that is empty or no JWT is an error; one without `exp` lives 20 minutes. All this as
//! Modal's Python client 1.6.4 (`_utils/auth_token_manager.py`).

use std::{
    sync::{Mutex as Lock, PoisonError},
    time::Duration,
};

use base64::Engine as _;
use rand::Rng;
use secret_string::SecretString;
use tokio::{sync::Mutex, time::Instant};

use crate::{clock, error::Result};

/// The life of a token that does not say when it ends.
const DEFAULT_LIFE: Duration = Duration::from_secs(20 * 60);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The token that is held, and when it is renewed.
#[derive(Debug, Default)]
pub(crate) struct AuthToken {
    held: Lock<Option<Held>>,
    /// Whoever fetches holds it; the others wait for it only where no token is good.
    fetching: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Held {
    token: SecretString,
    renew_at: Instant,
    ends_at: Instant,
    backoff: Duration,
}

impl AuthToken {
    /// The token, fetched with `fetch` where none is held or it is due; `fetch` is told whether one is held that
    /// is still good.
    ///
    /// # Errors
    /// `fetch` failed and no valid token is held, or it was refused.
    pub(crate) async fn get<F: Future<Output = Result<SecretString>>>(
        &self,
        fetch: impl FnOnce(bool) -> F,
    ) -> Result<SecretString> {
        self.get_at(Instant::now(), fetch).await
    }

    async fn get_at<F: Future<Output = Result<SecretString>>>(
        &self,
        now: Instant,
        fetch: impl FnOnce(bool) -> F,
    ) -> Result<SecretString> {
        let usable = match self.held() {
            Some(held) if now < held.renew_at && now < held.ends_at => return Ok(held.token),
            held => held.filter(|held| now < held.ends_at),
        };
        let _fetching = match (&usable, self.fetching.try_lock()) {
            (_, Ok(fetching)) => fetching,
            (Some(held), Err(_)) => return Ok(held.token.clone()),
            (None, Err(_)) => self.fetching.lock().await,
        };
        // Another call may have fetched it meanwhile.
        if let Some(held) = self.held().filter(|held| now < held.renew_at && now < held.ends_at) {
            return Ok(held.token);
        }
        match (fetch(usable.is_some()).await, usable) {
            (Ok(token), _) => {
                self.hold(Held::new(token.clone(), now));
                Ok(token)
            }
            (Err(error), Some(held)) if !error.is_auth() => {
                tracing::warn!(%error, "the auth token could not be renewed; the old one still serves");
                let token = held.token.clone();
                self.hold(held.backed_off(now));
                Ok(token)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

impl Held {
    fn new(token: SecretString, now: Instant) -> Self {
        let life = expiry(token.expose()).map_or(DEFAULT_LIFE, |end| {
            Duration::try_from_secs_f64(end - clock::unix_seconds()).unwrap_or(Duration::ZERO)
        });
        let share = rand::rng().random_range(0.5..0.6);
        Self {
            token,
            renew_at: now + life.mul_f64(share),
            ends_at: now + life,
            backoff: FIRST_BACKOFF,
        }
    }

    /// The same token, which is not renewed for a while: each failure doubles it.
    fn backed_off(self, now: Instant) -> Self {
        let backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        Self { renew_at: now + self.backoff, backoff, ..self }
    }
}

/// When a JWT ends, in seconds since 1970, where it says so.
pub(crate) fn expiry(jwt: &str) -> Option<f64> {
    claims(jwt)?.get("exp")?.as_f64()
}

/// Whether it can be read as a JWT.
pub(crate) fn is_jwt(text: &str) -> bool {
    claims(text).is_some_and(|claims| claims.is_object())
}

fn claims(jwt: &str) -> Option<serde_json::Value> {
    let payload = jwt.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::{Error, Operation};

    /// A JWT without a signature that ends `life` from now.
    pub(crate) fn jwt(life: Duration) -> String {
        let claims = format!("{{\"exp\":{}}}", clock::unix_seconds() + life.as_secs_f64());
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        format!("e30.{payload}.sig")
    }

    #[tokio::test]
    async fn a_token_is_fetched_once_and_again_after_half_its_life() {
        let (auth, fetches, start) = (AuthToken::default(), AtomicU32::new(0), Instant::now());
        let fetch = |_| async {
            fetches.fetch_add(1, Ordering::Relaxed);
            Ok(jwt(Duration::from_secs(1000)).as_str().into())
        };
        for (seconds, fetched) in [(0, 1), (490, 1), (610, 2)] {
            auth.get_at(start + Duration::from_secs(seconds), fetch).await.unwrap();
            assert_eq!(fetches.load(Ordering::Relaxed), fetched, "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn the_old_token_serves_while_renewal_fails_and_not_after_its_end() {
        let (auth, start) = (AuthToken::default(), Instant::now());
        let failing =
            |_| async { Err(Error::deadline(Operation::new("fetch", "a token"), "slow")) };
        assert!(auth.get_at(start, failing).await.is_err());
        let good = |_| async { Ok(jwt(Duration::from_secs(1000)).as_str().into()) };
        let first = auth.get_at(start, good).await.unwrap();
        let later = auth.get_at(start + Duration::from_secs(700), failing).await;
        assert_eq!(later.unwrap(), first);
        assert!(auth.get_at(start + Duration::from_secs(1100), failing).await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_ends_the_use_of_a_token_that_is_still_good() {
        let (auth, start) = (AuthToken::default(), Instant::now());
        let good = |_| async { Ok(jwt(Duration::from_secs(1000)).as_str().into()) };
        auth.get_at(start, good).await.unwrap();
        let refused = |_| async {
            let source = "no longer".into();
            Err(Error::Auth { operation: Operation::new("fetch", "a token"), source })
        };
        assert!(
            auth.get_at(start + Duration::from_secs(700), refused).await.unwrap_err().is_auth()
        );
    }

    #[tokio::test]
    async fn while_one_call_renews_the_others_go_on_with_the_old_token() {
        let (auth, start) = (AuthToken::default(), Instant::now());
        let good = |_| async { Ok(jwt(Duration::from_secs(1000)).as_str().into()) };
        let first = auth.get_at(start, good).await.unwrap();
        let later = start + Duration::from_secs(700);
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let told = std::sync::atomic::AtomicBool::new(false);
        let slow = |held| {
            told.store(held, Ordering::Relaxed);
            async {
                wait.await.unwrap();
                Ok(jwt(Duration::from_secs(2000)).as_str().into())
            }
        };
        let renewing = auth.get_at(later, slow);
        let others = async {
            let second = auth.get_at(later, |_| async { unreachable!("fetched twice") }).await;
            go.send(()).unwrap();
            second.unwrap()
        };
        let (renewed, second) = tokio::join!(renewing, others);
        assert!(told.load(Ordering::Relaxed), "it is told that one is held");
        assert_eq!(second, first);
        assert_ne!(renewed.unwrap(), first);
    }

    #[test]
    fn only_a_jwt_is_one() {
        assert!(
            is_jwt("e30.e30.sig") && !is_jwt("opaque") && !is_jwt("a.b.c") && !is_jwt("a.MQ.c")
        );
    }

    #[test]
    fn a_token_without_a_readable_end_has_none() {
        assert!(expiry(&jwt(Duration::from_secs(5))).is_some());
        for jwt in ["", "opaque", "a.b.c", "e30.e30.x"] {
            assert_eq!(expiry(jwt), None, "{jwt}");
        }
    }
}
