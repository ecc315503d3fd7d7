//! Why a key was not taken.

use std::{io, path::PathBuf};

use eval_types::RunId;
use jiff::Timestamp;

use crate::KeyId;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a signing key, a token or the list of revoked runs was not taken. No message holds a key or a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The secret is not what [`SigningKeys::generate`](crate::SigningKeys::generate) makes.
    #[error("signing key {position} is not 32 or more bytes in hexadecimal")]
    NotASigningKey {
        /// Which of the keys, from 1.
        position: usize,
    },
    /// No key can sign.
    #[error(
        "there is no signing key; set GOAT_TASK_SIGNING_KEY (`cargo xtask setup` generates one)"
    )]
    NoSigningKey,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// Not of the form that tokens have.
    #[error("it is no token of a task")]
    NotAToken,
    /// Signed with a key that is not, or no longer, known here.
    #[error("the token's key `{0}` is not known; was it rotated away?")]
    UnknownKey(KeyId),
    /// The signature does not fit: forged, or cut.
    #[error("the token's signature is wrong")]
    WrongSignature,
    /// Rightly signed, but the claims cannot be read: made by another version.
    #[error("the token's claims cannot be read")]
    Claims(#[source] serde_json::Error),
    /// Its time is over.
    #[error("the token expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The run's tokens were revoked.
    #[error("the tokens of run `{run}` are revoked")]
    Revoked {
        /// The run.
        run: RunId,
    },
    /// A line of the list of revoked runs.
    #[error("line {line} of the revoked runs is not `<run> <unix time>`")]
    RevokedLine {
        /// From 1.
        line: usize,
    },
    /// The list of revoked runs could not be read or written.
    #[error("the revoked runs in {path} cannot be {what}")]
    RevokedFile {
        /// `read` or `written`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
