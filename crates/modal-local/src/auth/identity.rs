//! Identity tokens of containers: JWTs by which a program inside proves to others where it runs, as with Modal's OIDC tokens.
//!
//! The issuer is this server, not Modal: nobody on the internet trusts it. Its public key is at `/.well-known/jwks.json`
//! for whoever has the server's token, so that a program under test can check what it was given.
//!
//! Source of the claims: <https://modal.com/docs/guide/oidc-integration>; read 2026-11-27.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::durable;
use crate::error::{Error, Result};
use crate::state_dir::StateDir;

/// What Modal's tokens are meant for.
const AUDIENCE: &str = "oidc.modal.com";
/// Bytes of each of a signature's two numbers.
const SCALAR: usize = 32;

/// Signs identity tokens, with ES256.
pub(crate) struct Identities {
    key: KeyPair,
}

/// Of whom a token speaks.
pub(crate) struct Bearer<'a> {
    pub(crate) workspace: (&'a str, &'a str),
    pub(crate) environment: (&'a str, &'a str),
    pub(crate) app: (&'a str, &'a str),
    /// The function that a container runs; a sandbox's runs none.
    pub(crate) function: Option<(&'a str, &'a str)>,
    pub(crate) container: &'a str,
}

impl Identities {
    /// Finds the key of the state directory, or makes it.
    pub(crate) fn open(dir: &StateDir) -> Result<Self> {
        let file = dir.identity_key();
        let failed = |source: rcgen::Error| Error::Tls { source: source.into() };
        let key = match fs::read_to_string(&file) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(failed)?,
            Err(_) => {
                let key = KeyPair::generate().map_err(failed)?;
                durable::write(&file, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
        };
        Ok(Self { key })
    }

    /// A token of `issuer` about `bearer`, good for `life`.
    pub(crate) fn issue(
        &self,
        issuer: &str,
        bearer: &Bearer<'_>,
        life: Duration,
    ) -> Result<String> {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.key_id()});
        let claims = claims(issuer, bearer, life);
        let signed =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes()).ok();
        let signature = signature.as_deref().and_then(plain_signature).ok_or_else(|| {
            Error::Precondition("an identity token could not be signed".to_owned())
        })?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// The public key, as a JSON Web Key Set.
    pub(crate) fn key_set(&self) -> Value {
        let (x, y) = self.point();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id(),
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }]})
    }

    fn key_id(&self) -> String {
        BASE64.encode(&Sha256::digest(self.key.der_bytes())[..12])
    }

    /// The two coordinates of the public key, which is an uncompressed point.
    fn point(&self) -> (&[u8], &[u8]) {
        let bytes = self.key.der_bytes();
        bytes[bytes.len() - 2 * SCALAR..].split_at(SCALAR)
    }
}

fn claims(issuer: &str, bearer: &Bearer<'_>, life: Duration) -> Value {
    let now = clock::now() as u64;
    let Bearer { workspace, environment, app, function, container } = bearer;
    let (function_id, function_name) = function.unwrap_or_default();
    let subject = format!(
        "modal:workspace_id:{}:environment_name:{}:app_name:{}:function_name:{function_name}:container_id:{container}",
        workspace.0, environment.1, app.1
    );
    let mut claims = json!({
        "iss": issuer, "aud": AUDIENCE, "sub": subject,
        "iat": now, "nbf": now, "exp": now + life.as_secs(), "jti": uuid::Uuid::new_v4().to_string(),
        "workspace_id": workspace.0, "workspace_name": workspace.1,
        "environment_id": environment.0, "environment_name": environment.1,
        "app_id": app.0, "app_name": app.1, "container_id": container,
    });
    if function.is_some() {
        claims["function_id"] = function_id.into();
        claims["function_name"] = function_name.into();
    }
    claims
}

/// The two numbers of an ASN.1 signature one after the other, as JWTs have them (RFC 7518, section 3.4).
fn plain_signature(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, length, body @ ..] = der else { return None };
    let body = body.get(..usize::from(*length))?;
    let (r, rest) = integer(body)?;
    let (s, _) = integer(rest)?;
    Some([r, s].concat())
}

/// The first ASN.1 integer as 32 bytes, and what follows it.
fn integer(der: &[u8]) -> Option<([u8; SCALAR], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let digits = match digits {
        [0, digits @ ..] => digits,
        digits => digits,
    };
    let mut scalar = [0; SCALAR];
    scalar.get_mut(SCALAR.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some((scalar, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEARER: Bearer<'static> = Bearer {
        workspace: ("ac-1", "ours"),
        environment: ("en-1", "main"),
        app: ("ap-1", "box"),
        function: None,
        container: "ta-1",
    };

    #[test]
    fn a_token_names_its_bearer_and_the_key_that_signed_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::new(dir.path());
        let identities = Identities::open(&dir).unwrap();
        let token = identities.issue("http://here", &BEARER, Duration::from_secs(60)).unwrap();
        let parts: Vec<Vec<u8>> =
            token.split('.').map(|part| BASE64.decode(part).unwrap()).collect();
        let header: Value = serde_json::from_slice(&parts[0]).unwrap();
        let claims: Value = serde_json::from_slice(&parts[1]).unwrap();
        let again = Identities::open(&dir).unwrap().key_set();
        assert_eq!(header["kid"], again["keys"][0]["kid"], "the key is kept");
        assert_eq!(parts[2].len(), 2 * SCALAR);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        insta::assert_snapshot!(claims["sub"].as_str().unwrap(), @"modal:workspace_id:ac-1:environment_name:main:app_name:box:function_name::container_id:ta-1");
    }

    #[test]
    fn a_token_of_a_function_names_it() {
        let bearer = Bearer { function: Some(("fu-1", "Cls.method")), ..BEARER };
        let claims = claims("http://here", &bearer, Duration::from_secs(60));
        assert_eq!(
            (&claims["function_id"], &claims["function_name"]),
            (&json!("fu-1"), &json!("Cls.method"))
        );
        assert!(claims["sub"].as_str().unwrap().contains(":function_name:Cls.method:"));
    }

    #[test]
    fn numbers_of_every_length_fill_32_bytes() {
        let der = [&[0x30, 0x27, 0x02, 0x21, 0][..], &[0x80; 32], &[0x02, 0x02, 0, 0x81]].concat();
        let plain = plain_signature(&der).unwrap();
        assert_eq!(plain[..32], [0x80; 32]);
        assert_eq!((plain[62], plain[63]), (0, 0x81));
        assert_eq!(plain_signature(&der[..20]), None);
        assert_eq!(plain_signature(&[]), None);
    }
}
