//! Assertions of an OAuth client that proves itself with a key (`private_key_jwt`): short-lived JWTs, signed RS256.
//!
//! Their claims, header and key id are those of Modal's Python client 1.6.4 (`_utils/oauth.py`); the key id is the key's
//! thumbprint (RFC 7638).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use secret_string::SecretString;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{clock, config::ConfigError};

const AUDIENCE: &str = "modal-server";
const LIFETIME_SECONDS: u64 = 5 * 60;
const LEAST_BITS: usize = 2048;

/// Signs assertions.
pub(crate) struct Signer {
    client_id: String,
    key: RsaKeyPair,
    key_id: String,
}

impl Signer {
    /// # Errors
    /// The key is not an unencrypted RSA key of at least 2048 bits in PEM; the error does not show it.
    pub(crate) fn new(client_id: &str, pem: &SecretString) -> Result<Self, ConfigError> {
        let invalid = |problem| ConfigError::InvalidValue {
            setting: "MODAL_OAUTH_JWT_KEY",
            value: "****".to_owned(),
            problem,
        };
        let shape = "expected an unencrypted RSA private key in PEM";
        let text = zeroize::Zeroizing::new(pem.expose().replace("\\n", "\n"));
        let key = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(invalid(shape)),
        };
        let key = key.map_err(|_| invalid(shape))?;
        if key.public().modulus_len() * 8 < LEAST_BITS {
            return Err(invalid("expected a key of at least 2048 bits"));
        }
        let key_id = thumbprint(&key);
        Ok(Self { client_id: client_id.to_owned(), key, key_id })
    }

    /// A fresh assertion; `None` where this machine has no random numbers.
    pub(crate) fn assertion(&self) -> Option<String> {
        let header = json!({"alg": "RS256", "kid": self.key_id, "typ": "JWT"});
        let now = clock::unix_seconds() as u64;
        let claims = json!({
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": uuid::Uuid::new_v4().to_string(),
        });
        let part = |value: serde_json::Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

fn thumbprint(key: &RsaKeyPair) -> String {
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
    let (exponent, modulus) = (BASE64.encode(public.e), BASE64.encode(public.n));
    let canonical = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
    BASE64.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// A key made for this test. `openssl` is on every Debian that `git` is on, and ring makes no RSA keys.
    fn key(bits: &str) -> SecretString {
        let made = Command::new("openssl").args(["genrsa", bits]).output();
        let made = made.expect("openssl is needed: apt-get install openssl");
        String::from_utf8(made.stdout).unwrap().into()
    }

    #[test]
    fn an_assertion_is_signed_and_says_who_for_whom_and_until_when() {
        let pem = key("2048");
        let escaped = SecretString::from(pem.expose().replace('\n', "\\n"));
        let signer = Signer::new("client-1", &escaped).unwrap();
        let assertion = signer.assertion().unwrap();
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let public = signer.key.public().as_ref();
        let signature = BASE64.decode(signature).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let claims = BASE64.decode(signed.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("client-1"), &json!("modal-server")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);
        assert_ne!(signer.assertion().unwrap(), assertion, "each call has its own");
    }

    #[test]
    fn a_key_that_is_too_short_or_none_is_refused_and_not_shown() {
        for pem in [key("1024"), "planted".into()] {
            let error = Signer::new("c", &pem).err().unwrap();
            let text = format!("{error:?}");
            assert!(!text.contains("planted") && !text.contains("BEGIN"), "{text}");
        }
    }
}
