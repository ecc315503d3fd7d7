//! What a URL allows whoever holds it: one upload, or one download.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::hmac::Key;
use crate::clock;

/// One thing that may be done without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Grant {
    /// Upload a whole blob.
    PutBlob { blob: String },
    /// Upload one part of a blob, counted from 1.
    PutPart { blob: String, part: u32 },
    /// Put the parts of a blob together.
    CompleteBlob { blob: String },
    /// Download a blob.
    GetBlob { blob: String },
    /// Upload the block that has this SHA-256, in hexadecimal.
    PutBlock { sha256: String },
    /// Download a range of a file of a volume.
    GetBlock {
        volume: String,
        path: String,
        start: u64,
        len: u64,
        /// Trailing zero bytes are left out.
        trim: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    exp: u64,
    #[serde(flatten)]
    grant: Grant,
}

/// A path segment that stands for `grant` and cannot be guessed.
pub(crate) fn sign(key: &Key, grant: &Grant, life: Duration) -> String {
    let exp = clock::now() as u64 + life.as_secs();
    let envelope = Envelope { exp, grant: grant.clone() };
    let payload = BASE64.encode(serde_json::to_vec(&envelope).unwrap_or_default());
    let code = BASE64.encode(key.sign(payload.as_bytes()));
    format!("{payload}.{code}")
}

/// The grant of a path segment, unless it is forged or expired.
pub(crate) fn verify(key: &Key, segment: &str) -> Option<Grant> {
    let (payload, code) = segment.split_once('.')?;
    if !key.verify(payload.as_bytes(), &BASE64.decode(code).ok()?) {
        return None;
    }
    let envelope: Envelope = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
    (envelope.exp > clock::now() as u64).then_some(envelope.grant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_survives_the_trip_and_changes_are_noticed() {
        let key = Key::new(b"k");
        let grant = Grant::PutPart { blob: "bl-1".into(), part: 3 };
        let segment = sign(&key, &grant, Duration::from_secs(60));
        assert_eq!(verify(&key, &segment), Some(grant.clone()));
        assert_eq!(verify(&Key::new(b"other"), &segment), None);
        assert_eq!(verify(&key, &format!("x{segment}")), None);
        assert_eq!(verify(&key, &sign(&key, &grant, Duration::ZERO)), None);
    }
}
