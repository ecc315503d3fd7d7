//! Who is asking: a token, an OAuth integration, or a container, which needs to say nothing.
//!
//! The rules are those of Modal's Python client 1.6.4 (`Client.from_env`): one kind only; OAuth is a refresh token, a
//! client id, and either a client secret or a key that signs assertions; containers send no credentials.

use secret_string::SecretString;

use super::ConfigError;

/// OAuth settings, as far as they are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OAuthSettings {
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<SecretString>,
    /// An RSA private key in PEM; line breaks may be written `\n`.
    pub(crate) jwt_key: Option<SecretString>,
}

/// Complete credentials.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials<'a> {
    Token { id: &'a str, secret: &'a SecretString },
    OAuth { refresh_token: &'a SecretString, client_id: &'a str, proof: Proof<'a> },
    Container,
}

/// How an OAuth client proves that it is the one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof<'a> {
    Secret(&'a SecretString),
    Key(&'a SecretString),
}

impl OAuthSettings {
    pub(crate) fn is_any(&self) -> bool {
        self.refresh_token.is_some()
            || self.client_id.is_some()
            || self.client_secret.is_some()
            || self.jwt_key.is_some()
    }

    pub(crate) fn credentials(&self) -> Result<Credentials<'_>, ConfigError> {
        let missing = |setting| ConfigError::HalfOAuth { missing: setting };
        let refresh_token =
            self.refresh_token.as_ref().ok_or(missing("MODAL_OAUTH_REFRESH_TOKEN"))?;
        let client_id = self.client_id.as_deref().ok_or(missing("MODAL_OAUTH_CLIENT_ID"))?;
        let proof = match (&self.client_secret, &self.jwt_key) {
            (Some(secret), None) => Proof::Secret(secret),
            (None, Some(key)) => Proof::Key(key),
            _ => {
                return Err(missing(
                    "exactly one of MODAL_OAUTH_CLIENT_SECRET and MODAL_OAUTH_JWT_KEY",
                ));
            }
        };
        Ok(Credentials::OAuth { refresh_token, client_id, proof })
    }
}
