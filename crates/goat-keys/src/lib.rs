//! Short-lived keys for sandboxes.
//!
//! An agent must not hold the proxy's master key: it would outlive the task, spend without limit and open the
//! administration. Instead its sandbox gets a token that says what this task may call and until when, signed with a
//! secret of its own ([`SigningKeys`]). Whoever has that secret checks a token without looking anything up: the
//! door in front of the proxy by [`SigningKeys::verify`], LiteLLM by the Python hook that `litellm-config`
//! generates. Run and task in the [`Claims`] are therefore what the traces can believe.
//!
//! A token is `sk-goat1.<key id>.<claims>.<mac>`: claims are JSON in URL-safe base64, the mac is HMAC-SHA-256 of
//! everything before its dot. The key id lets keys rotate: the first key signs, all of them verify.
//!
//! ```
//! use std::time::Duration;
//! use goat_keys::{Claims, RevokedRuns, SigningKeys};
//! use jiff::Timestamp;
//!
//! let keys = SigningKeys::generate()?;
//! let now = Timestamp::now();
//! let claims = Claims::for_trial("20261126_101500_k3fz".parse()?, "math-simple".parse()?, Duration::from_secs(600), now)
//!     .with_models(["gpt-5-nano"])
//!     .with_budget_usd(0.5);
//! let token = keys.issue(&claims)?;
//! assert_eq!(keys.verify(token.expose(), now, &RevokedRuns::default())?, claims);
//! assert_eq!(format!("{token:?}"), "Token(****)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claims;
mod error;
mod revoked;
mod signing;
mod token;

pub use crate::{
    claims::{Claims, GRACE, TokenId},
    error::{Error, Result},
    revoked::RevokedRuns,
    signing::{KeyId, SigningKeys},
    token::{PREFIX, Token},
};
