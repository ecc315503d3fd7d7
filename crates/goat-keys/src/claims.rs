//! What a token grants.

use std::time::Duration;

use eval_types::{RunId, TaskId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How long a token lives after its trial's time-out: the last call may still be answered.
pub const GRACE: Duration = Duration::from_secs(300);

/// A token's own name, for logs and for budgets that are kept outside of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl TokenId {
    /// A new one: 64 random bits.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a token grants, to which task of which run, until when. What is `None` is not limited by the token.
///
/// The JSON names are part of the format; the Python hook reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The token's name; empty until it is issued with one.
    #[serde(rename = "jti", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TokenId>,
    /// The run: the session of its traces.
    pub run: RunId,
    /// The task: the name of its traces.
    pub task: TaskId,
    /// Names of models as the proxy knows them. Empty: none.
    pub models: Vec<String>,
    /// When it was made.
    #[serde(rename = "iat", with = "seconds")]
    pub issued_at: Timestamp,
    /// From when on it is refused, in whole seconds.
    #[serde(rename = "exp", with = "seconds")]
    pub expires_at: Timestamp,
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u32>,
    /// Tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Requests at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// US dollars in all.
    #[serde(rename = "budget", default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// For the traces, as `variant:skills`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Claims {
    /// A token for a trial that may take `timeout`: it lives [`GRACE`] longer, and grants no model yet.
    pub fn for_trial(run: RunId, task: TaskId, timeout: Duration, now: Timestamp) -> Self {
        let issued_at = whole(now);
        let lifetime = timeout.saturating_add(GRACE).as_secs();
        let expires = issued_at.as_second().saturating_add_unsigned(lifetime);
        let expires_at = Timestamp::from_second(expires).unwrap_or(Timestamp::MAX);
        Self {
            id: None,
            run,
            task,
            models: Vec::new(),
            issued_at,
            expires_at,
            rpm: None,
            tpm: None,
            parallel: None,
            budget_usd: None,
            tags: Vec::new(),
        }
    }

    /// The same, for these models.
    pub fn with_models<M: Into<String>>(mut self, models: impl IntoIterator<Item = M>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// The same, with so many requests a minute at most.
    pub fn with_rpm(mut self, rpm: u32) -> Self {
        self.rpm = Some(rpm);
        self
    }

    /// The same, with so many requests at a time at most.
    pub fn with_parallel(mut self, parallel: u32) -> Self {
        self.parallel = Some(parallel);
        self
    }

    /// The same, with so many US dollars in all.
    pub fn with_budget_usd(mut self, budget: f64) -> Self {
        self.budget_usd = Some(budget);
        self
    }

    /// The same, with a name of its own.
    pub fn with_id(mut self, id: TokenId) -> Self {
        self.id = Some(id);
        self
    }
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Seconds since 1970, as in other signed tokens.
mod seconds {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.as_second())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_second(i64::deserialize(from)?).map_err(D::Error::custom)
    }
}
