//! The secret that signs, and what is checked with it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    Claims, RevokedRuns, Token,
    error::{Error, Result},
    token::{PREFIX, Parts},
};

/// Bytes of a new key, and the fewest that a key has: those of the hash (RFC 2104, section 3).
const KEY_BYTES: usize = 32;

/// Which key signed: the beginning of a hash of it. It says nothing about the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(String);

impl KeyId {
    fn of(key: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(b"goat-keys id\0").chain_update(key).finalize();
        Self(hex::encode(&hash[..4]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct SigningKey {
    id: KeyId,
    key: hmac::Key,
    secret: Zeroizing<String>,
}

/// The keys that sign and verify: the first signs, all of them verify, so that a key can be replaced while tokens of
/// the one before it still live.
///
/// As text (the variable `GOAT_TASK_SIGNING_KEY`): 64 hexadecimal digits each, commas between.
pub struct SigningKeys {
    keys: Vec<SigningKey>,
}

impl SigningKeys {
    /// One new key.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(Error::Random)?;
        Self::parse(&Zeroizing::new(hex::encode(*bytes)))
    }

    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// There is none, or one is not hexadecimal or shorter than 32 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let keys: Vec<_> = parts
            .enumerate()
            .map(|(index, part)| {
                SigningKey::parse(part).ok_or(Error::NotASigningKey { position: index + 1 })
            })
            .collect::<Result<_>>()?;
        if keys.is_empty() { Err(Error::NoSigningKey) } else { Ok(Self { keys }) }
    }

    /// These keys after a new one, which signs from now on; of the old ones only the newest goes on verifying.
    pub fn rotated(&self) -> Result<Self> {
        let mut keys = Self::generate()?;
        keys.keys.extend(self.keys.first().and_then(|key| SigningKey::parse(&key.secret)));
        Ok(keys)
    }

    /// The text that [`parse`](Self::parse) reads, for the secret's store alone.
    pub fn expose(&self) -> Zeroizing<String> {
        let keys: Vec<&str> = self.keys.iter().map(|key| key.secret.as_str()).collect();
        Zeroizing::new(keys.join(","))
    }

    /// Which key signs.
    pub fn id(&self) -> &KeyId {
        &self.keys[0].id
    }

    /// Signs.
    ///
    /// # Errors
    ///
    /// None in practice: claims are numbers and text.
    pub fn issue(&self, claims: &Claims) -> Result<Token> {
        let key = &self.keys[0];
        let payload = BASE64.encode(serde_json::to_vec(claims).map_err(Error::Claims)?);
        let signed = format!("{PREFIX}.{}.{payload}", key.id);
        let mac = BASE64.encode(hmac::sign(&key.key, signed.as_bytes()));
        Ok(Token::new(format!("{signed}.{mac}")))
    }

    /// What the token grants. The signature is compared in constant time, and nothing of the claims is looked at
    /// before it.
    ///
    /// # Errors
    ///
    /// One variant for each reason to refuse it: tell the caller of the route no more than that it is refused.
    pub fn verify(&self, token: &str, now: Timestamp, revoked: &RevokedRuns) -> Result<Claims> {
        let parts = Parts::of(token).ok_or(Error::NotAToken)?;
        let key = self.keys.iter().find(|key| key.id.0 == parts.key);
        let key = key.ok_or_else(|| unknown(parts.key))?;
        let mac = BASE64.decode(parts.mac).map_err(|_| Error::WrongSignature)?;
        hmac::verify(&key.key, parts.signed.as_bytes(), &mac).map_err(|_| Error::WrongSignature)?;
        let claims = BASE64.decode(parts.claims).map_err(|_| Error::NotAToken)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(Error::Claims)?;
        if now >= claims.expires_at {
            return Err(Error::Expired { at: claims.expires_at });
        }
        if revoked.contains(&claims.run) {
            return Err(Error::Revoked { run: claims.run });
        }
        Ok(claims)
    }
}

/// A key id that is not one is not repeated: it may be anything.
fn unknown(id: &str) -> Error {
    let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Error::UnknownKey(KeyId(id.to_owned())) } else { Error::NotAToken }
}

impl SigningKey {
    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(hex::decode(text).ok()?);
        (bytes.len() >= KEY_BYTES).then(|| Self {
            id: KeyId::of(&bytes),
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            secret: Zeroizing::new(text.to_ascii_lowercase()),
        })
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claims() -> Claims {
        let (run, task) = ("run-1".parse().unwrap(), "task-1".parse().unwrap());
        Claims::for_trial(run, task, Duration::from_secs(600), time(1_000))
            .with_models(["gpt-5-nano"])
            .with_rpm(60)
            .with_parallel(4)
            .with_budget_usd(0.25)
    }

    fn keys() -> SigningKeys {
        SigningKeys::parse(SECRET).unwrap()
    }

    fn refusal(keys: &SigningKeys, token: &str, now: i64) -> String {
        keys.verify(token, time(now), &RevokedRuns::default()).unwrap_err().to_string()
    }

    /// The format is a contract with the Python hook and with tokens that are about.
    #[test]
    fn the_format_is_stable() {
        let token = keys().issue(&claims()).unwrap();
        let payload = token.expose().split('.').nth(2).unwrap();
        let json = String::from_utf8(BASE64.decode(payload).unwrap()).unwrap();
        insta::assert_snapshot!(json, @r#"{"run":"run-1","task":"task-1","models":["gpt-5-nano"],"iat":1000,"exp":1900,"rpm":60,"parallel":4,"budget":0.25}"#);
        insta::assert_snapshot!(
            token.expose(),
            @"sk-goat1.6df4f3aa.eyJydW4iOiJydW4tMSIsInRhc2siOiJ0YXNrLTEiLCJtb2RlbHMiOlsiZ3B0LTUtbmFubyJdLCJpYXQiOjEwMDAsImV4cCI6MTkwMCwicnBtIjo2MCwicGFyYWxsZWwiOjQsImJ1ZGdldCI6MC4yNX0.FF_yrPOFdM6St7Zim88AZTh3MXX8AUqVvmJWMW-b6Js"
        );
    }

    #[test]
    fn a_token_is_good_until_five_minutes_after_the_time_out() {
        let token = keys().issue(&claims()).unwrap();
        let verified = keys().verify(token.expose(), time(1_899), &RevokedRuns::default()).unwrap();
        assert_eq!(verified, claims());
        assert_eq!(
            refusal(&keys(), token.expose(), 1_900),
            "the token expired at 1970-01-01T00:31:40Z"
        );
    }

    #[test]
    fn another_key_and_a_revoked_run_are_refused() {
        let token = keys().issue(&claims()).unwrap();
        let other = SigningKeys::generate().unwrap();
        let expected =
            format!("the token's key `{}` is not known; was it rotated away?", keys().id());
        assert_eq!(refusal(&other, token.expose(), 1_000), expected);
        let mut revoked = RevokedRuns::default();
        revoked.add("run-1".parse().unwrap(), time(1_900));
        let error = keys().verify(token.expose(), time(1_000), &revoked).unwrap_err();
        assert_eq!(error.to_string(), "the tokens of run `run-1` are revoked");
    }

    #[test]
    fn a_rotated_key_signs_and_the_one_before_still_verifies() {
        let old = keys().issue(&claims()).unwrap();
        let once = keys().rotated().unwrap();
        assert!(once.verify(old.expose(), time(1_000), &RevokedRuns::default()).is_ok());
        assert_ne!(once.id(), keys().id());
        let twice = SigningKeys::parse(&once.rotated().unwrap().expose()).unwrap();
        assert!(refusal(&twice, old.expose(), 1_000).contains("is not known"));
        let new = once.issue(&claims()).unwrap();
        assert!(twice.verify(new.expose(), time(1_000), &RevokedRuns::default()).is_ok());
    }

    #[test]
    fn weak_keys_are_not_taken_and_none_is_shown() {
        let error = |text: &str| SigningKeys::parse(text).unwrap_err().to_string();
        assert!(error("").contains("no signing key"));
        assert!(error("00ff").contains("key 1 is not 32"));
        assert!(error(&format!("{SECRET},sk-1234")).contains("key 2"));
        assert!(!format!("{:?}", keys()).contains("0001"));
    }

    proptest! {
        /// No token but the one that was issued is good: each changed character is refused.
        #[test]
        fn a_changed_token_is_refused(position in 0usize..300, to in "[A-Za-z0-9._-]") {
            let token = keys().issue(&claims()).unwrap();
            let position = position % token.expose().len();
            let mut changed = token.expose().to_owned();
            changed.replace_range(position..=position, &to);
            prop_assume!(changed != token.expose());
            prop_assert!(keys().verify(&changed, time(1_000), &RevokedRuns::default()).is_err());
        }

        #[test]
        fn whatever_comes_is_refused_without_a_panic(text in "\\PC*") {
            prop_assert!(keys().verify(&text, time(0), &RevokedRuns::default()).is_err());
        }
    }
}
