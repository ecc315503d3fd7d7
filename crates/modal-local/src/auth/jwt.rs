//! JSON Web Tokens, signed with HS256: the only algorithm that is read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::hmac::Key;
use crate::clock;

/// The first part of every token.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Audience {
    ControlPlane,
    Router,
    Call,
    Input,
    Connect,
    Server,
    Session,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the token was not issued by this server for this purpose")]
    Forged,
    #[error("the token has expired; fetch a new one")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: Audience,
    sub: String,
    iat: u64,
    exp: u64,
    /// Which of the inputs of its call: clients read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idx: Option<i32>,
}

/// A token about `subject`, good for `life`.
pub(crate) fn sign(key: &Key, audience: Audience, subject: &str, life: Duration) -> String {
    sign_indexed(key, audience, subject, life, None)
}

/// As [`sign`], with an index beside the subject.
pub(crate) fn sign_indexed(
    key: &Key,
    audience: Audience,
    subject: &str,
    life: Duration,
    idx: Option<i32>,
) -> String {
    let iat = clock::now() as u64;
    let exp = iat + life.as_secs();
    let claims = Claims { aud: audience, sub: subject.to_owned(), iat, exp, idx };
    let claims = serde_json::to_string(&claims).unwrap_or_default();
    let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
    let code = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{code}")
}

/// The subject of a token that this server signed for `audience`.
pub(crate) fn verify(key: &Key, audience: Audience, token: &str) -> Result<String, Refused> {
    let (signed, code) = token.rsplit_once('.').ok_or(Refused::Forged)?;
    let code = BASE64.decode(code).map_err(|_| Refused::Forged)?;
    if !key.verify(signed.as_bytes(), &code) {
        return Err(Refused::Forged);
    }
    let claims = signed.split_once('.').map(|(_, claims)| claims).ok_or(Refused::Forged)?;
    let claims = BASE64.decode(claims).map_err(|_| Refused::Forged)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refused::Forged)?;
    match claims {
        Claims { aud, .. } if aud != audience => Err(Refused::Forged),
        Claims { exp, .. } if exp <= clock::now() as u64 => Err(Refused::Expired),
        Claims { sub, .. } => Ok(sub),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn a_token_has_three_parts_and_a_readable_expiry() {
        let token = sign(&Key::new(b"k"), Audience::Router, "ta-1", LIFE);
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64.decode(parts[1]).unwrap()).unwrap();
        assert!(claims["exp"].as_u64().unwrap() > clock::now() as u64);
    }

    #[test]
    fn only_what_this_key_signed_for_this_purpose_and_time_is_taken() {
        let key = Key::new(b"k");
        let token = sign(&key, Audience::Router, "ta-1", LIFE);
        assert_eq!(verify(&key, Audience::Router, &token), Ok("ta-1".into()));
        assert_eq!(verify(&key, Audience::ControlPlane, &token), Err(Refused::Forged));
        assert_eq!(verify(&Key::new(b"other"), Audience::Router, &token), Err(Refused::Forged));
        for broken in ["", ".", "..", "a.b.c", &token[1..], &token[..token.len() - 2]] {
            assert_eq!(verify(&key, Audience::Router, broken), Err(Refused::Forged));
        }
        let old = sign(&key, Audience::Router, "ta-1", Duration::ZERO);
        assert_eq!(verify(&key, Audience::Router, &old), Err(Refused::Expired));
    }
}
