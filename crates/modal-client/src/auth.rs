//! The auth token: a short-lived JWT that calls for version 2 sandboxes carry beside the long-lived token.
//!
//! It is fetched at the first call that needs it, renewed when 50 to 60 per cent of its life is over
//! (at random, so that a fleet does not renew at once), and kept while a renewal fails and it is still good.

use std::time::Duration;

use base64::Engine as _;
use rand::Rng;
use tokio::{sync::Mutex, time::Instant};

use crate::{clock, error::Result, secret_string::SecretString};

/// The life of a token that does not say when it ends.
const DEFAULT_LIFE: Duration = Duration::from_secs(20 * 60);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The token that is held, and when it is renewed.
#[derive(Debug, Default)]
pub(crate) struct AuthToken(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    token: SecretString,
    renew_at: Instant,
    ends_at: Instant,
    backoff: Duration,
}

impl AuthToken {
    /// The token, fetched with `fetch` where none is held or it is due.
    ///
    /// # Errors
    /// `fetch` failed and no valid token is held.
    pub(crate) async fn get<F: Future<Output = Result<SecretString>>>(
        &self,
        fetch: impl FnOnce() -> F,
    ) -> Result<SecretString> {
        self.get_at(Instant::now(), fetch).await
    }

    async fn get_at<F: Future<Output = Result<SecretString>>>(
        &self,
        now: Instant,
        fetch: impl FnOnce() -> F,
    ) -> Result<SecretString> {
        let mut slot = self.0.lock().await;
        if let Some(held) = &*slot
            && now < held.renew_at
        {
            return Ok(held.token.clone());
        }
        match (fetch().await, &mut *slot) {
            (Ok(token), slot) => {
                *slot = Some(Held::new(token.clone(), now));
                Ok(token)
            }
            (Err(error), Some(held)) if now < held.ends_at => {
                tracing::debug!(%error, "the auth token could not be renewed; the old one still serves");
                held.renew_at = now + held.backoff;
                held.backoff = (held.backoff * 2).min(LONGEST_BACKOFF);
                Ok(held.token.clone())
            }
            (Err(error), _) => Err(error),
        }
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
}

/// When a JWT ends, in seconds since 1970, where it says so.
pub(crate) fn expiry(jwt: &str) -> Option<f64> {
    let payload = jwt.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    claims.get("exp")?.as_f64()
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
        let fetch = || async {
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
        let failing = || async { Err(Error::deadline(Operation::new("fetch", "a token"), "slow")) };
        assert!(auth.get_at(start, failing).await.is_err());
        let good = || async { Ok(jwt(Duration::from_secs(1000)).as_str().into()) };
        let first = auth.get_at(start, good).await.unwrap();
        let later = auth.get_at(start + Duration::from_secs(700), failing).await;
        assert_eq!(later.unwrap(), first);
        assert!(auth.get_at(start + Duration::from_secs(1100), failing).await.is_err());
    }

    #[test]
    fn a_token_without_a_readable_end_has_none() {
        assert!(expiry(&jwt(Duration::from_secs(5))).is_some());
        for jwt in ["", "opaque", "a.b.c", "e30.e30.x"] {
            assert_eq!(expiry(jwt), None, "{jwt}");
        }
    }
}
