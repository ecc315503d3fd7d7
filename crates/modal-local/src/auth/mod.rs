//! Who may call: the token pair, JWTs of the control plane and the command router, signed URLs.

mod hmac;
pub(crate) mod identity;
mod jwt;
mod signed_url;

use std::time::Duration;

use secret_string::SecretString;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tonic::Status;

use self::identity::Identities;
pub(crate) use self::signed_url::Grant;
use crate::connect::Claim;
use crate::durable;
use crate::error::{Error, Result};
use crate::ids::{CallId, FunctionId, InputId, SessionId, TaskId, random_suffix};
use crate::server::TokenPair;
use crate::state_dir::StateDir;

/// How long a JWT of the control plane is good for; clients renew it half-way.
const AUTH_TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// How long a JWT of the command router is good for: longer than any sandbox lives.
const ROUTER_TOKEN_LIFE: Duration = Duration::from_secs(3 * 86_400);
/// How long the tokens of calls and inputs are good for: as long as calls are kept.
const CALL_TOKEN_LIFE: Duration = Duration::from_secs(8 * 86_400);
/// How long a connect token is good for, as long as its sandbox lives.
const CONNECT_TOKEN_LIFE: Duration = Duration::from_secs(86_400);
/// How long a session's token is good for: longer than any container lives. The session itself ends it.
const SESSION_TOKEN_LIFE: Duration = Duration::from_secs(8 * 86_400);
/// How long a URL for an upload or a download is good for.
const URL_LIFE: Duration = Duration::from_secs(86_400);

/// Issues and checks every proof of identity.
pub(crate) struct Auth {
    token: TokenPair,
    key: hmac::Key,
    /// For sandboxes that want to prove who they are.
    pub(crate) identities: Identities,
}

/// What `keys.json` holds. Only its owner can read it.
#[derive(Serialize, Deserialize)]
struct Keys {
    token_id: String,
    token_secret: String,
    signing_key: String,
}

impl Auth {
    /// Reads the keys of the state directory, or makes them.
    pub(crate) fn open(dir: &StateDir, token: Option<TokenPair>) -> Result<Self> {
        let path = dir.keys();
        let keys = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                Error::Precondition(format!("`{}` cannot be read: {error}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Keys::create(dir)?,
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let token =
            token.unwrap_or(TokenPair { id: keys.token_id, secret: keys.token_secret.into() });
        let key = hmac::Key::new(keys.signing_key.as_bytes());
        Ok(Self { token, key, identities: Identities::open(dir)? })
    }

    /// The pair that clients must present.
    pub(crate) fn token(&self) -> &TokenPair {
        &self.token
    }

    /// Whether these are the server's token id and secret; takes as long for every wrong guess.
    pub(crate) fn is_token(&self, id: &[u8], secret: &[u8]) -> bool {
        let id = id.ct_eq(self.token.id.as_bytes());
        let secret = secret.ct_eq(self.token.secret.expose().as_bytes());
        (id & secret).into()
    }

    /// The JWT that `AuthTokenGet` answers.
    pub(crate) fn issue_auth_token(&self) -> String {
        jwt::sign(&self.key, jwt::Audience::ControlPlane, "client", AUTH_TOKEN_LIFE)
    }

    /// A JWT for the command router, good for one task.
    pub(crate) fn issue_router_token(&self, task: &TaskId) -> String {
        jwt::sign(&self.key, jwt::Audience::Router, task.as_str(), ROUTER_TOKEN_LIFE)
    }

    /// The task that a call of the command router may touch, from its `authorization` header.
    pub(crate) fn verify_router_token(&self, headers: &http::HeaderMap) -> Result<TaskId, Status> {
        let header = headers.get(http::header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = header.and_then(|it| it.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            Status::unauthenticated("the command router needs `authorization: Bearer <jwt>`")
        })?;
        let task = jwt::verify(&self.key, jwt::Audience::Router, token)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        TaskId::parse(&task).map_err(|error| Status::unauthenticated(error.to_string()))
    }

    /// A token for one input of a call, by which its client asks for another attempt.
    pub(crate) fn issue_input_token(&self, input: &InputId, idx: i32) -> String {
        jwt::sign_indexed(
            &self.key,
            jwt::Audience::Input,
            input.as_str(),
            CALL_TOKEN_LIFE,
            Some(idx),
        )
    }

    /// A token for a call.
    pub(crate) fn issue_call_token(&self, call: &CallId) -> String {
        jwt::sign(&self.key, jwt::Audience::Call, call.as_str(), CALL_TOKEN_LIFE)
    }

    /// The input that a token is for.
    pub(crate) fn verify_input_token(&self, token: &str) -> Result<InputId> {
        let subject = jwt::verify(&self.key, jwt::Audience::Input, token)
            .map_err(|error| Error::invalid(format!("the input's token: {error}")))?;
        Ok(InputId::parse(&subject)?)
    }

    /// A token for HTTP into one sandbox.
    pub(crate) fn issue_connect_token(&self, claim: &Claim) -> Result<String> {
        let subject =
            serde_json::to_string(claim).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(jwt::sign(&self.key, jwt::Audience::Connect, &subject, CONNECT_TOKEN_LIFE))
    }

    /// What a token of [`Auth::issue_connect_token`] allows; `None` if forged or expired.
    pub(crate) fn verify_connect_token(&self, token: &str) -> Option<Claim> {
        let subject = jwt::verify(&self.key, jwt::Audience::Connect, token).ok()?;
        serde_json::from_str(&subject).ok()
    }

    /// A token for requests to one server (`@app.server`).
    pub(crate) fn issue_server_token(&self, server: &FunctionId) -> String {
        jwt::sign(&self.key, jwt::Audience::Server, server.as_str(), AUTH_TOKEN_LIFE)
    }

    /// Whether a token of [`Auth::issue_server_token`] is for this server, and still good.
    pub(crate) fn is_server_token(&self, server: &FunctionId, token: &str) -> bool {
        jwt::verify(&self.key, jwt::Audience::Server, token).is_ok_and(|it| it == server.as_str())
    }

    /// A token for the requests of one sticky session.
    pub(crate) fn issue_session_token(&self, session: &SessionId) -> String {
        jwt::sign(&self.key, jwt::Audience::Session, session.as_str(), SESSION_TOKEN_LIFE)
    }

    /// The session that a token of [`Auth::issue_session_token`] is for.
    pub(crate) fn verify_session_token(&self, token: &str) -> Option<SessionId> {
        let subject = jwt::verify(&self.key, jwt::Audience::Session, token).ok()?;
        SessionId::parse(&subject).ok()
    }

    /// An unguessable path segment that stands for `grant`.
    pub(crate) fn sign_grant(&self, grant: &Grant) -> String {
        signed_url::sign(&self.key, grant, URL_LIFE)
    }

    /// What a path segment of [`Auth::sign_grant`] allows; `None` if forged or expired.
    pub(crate) fn verify_grant(&self, segment: &str) -> Option<Grant> {
        signed_url::verify(&self.key, segment)
    }
}

impl Keys {
    fn create(dir: &StateDir) -> Result<Self> {
        let keys = Self {
            token_id: format!("ak-{}", random_suffix()),
            token_secret: format!("as-{}{}", random_suffix(), random_suffix()),
            signing_key: format!("{}{}", random_suffix(), random_suffix()),
        };
        let text = serde_json::to_vec(&keys).map_err(|error| Error::invalid(error.to_string()))?;
        durable::write(&dir.keys(), &text, 0o600)?;
        Ok(keys)
    }
}

/// The token as headers or metadata carry it, and what [`Auth::is_token`] checks.
pub(crate) fn presented_token(headers: &http::HeaderMap) -> (&[u8], &[u8]) {
    let bytes =
        |name| headers.get(name).map_or(&b""[..], |value: &http::HeaderValue| value.as_bytes());
    (bytes("x-modal-token-id"), bytes("x-modal-token-secret"))
}

/// The secret half, for those who print a pair.
impl TokenPair {
    /// A pair from its two halves.
    pub fn new(id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self { id: id.into(), secret: secret.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn open(dir: &std::path::Path) -> Auth {
        Auth::open(&StateDir::new(dir), None).unwrap()
    }

    #[test]
    fn keys_are_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let again = open(dir.path());
        let token = first.token();
        assert!(again.is_token(token.id.as_bytes(), token.secret.expose().as_bytes()));
        let mode = std::fs::metadata(dir.path().join("keys.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn half_a_token_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let auth = open(dir.path());
        let (id, secret) = (auth.token().id.clone(), auth.token().secret.clone());
        assert!(!auth.is_token(id.as_bytes(), b""));
        assert!(!auth.is_token(b"", secret.expose().as_bytes()));
        assert!(!auth.is_token(id.as_bytes(), &secret.expose().as_bytes()[1..]));
    }

    #[test]
    fn a_router_token_names_its_task_and_an_auth_token_opens_no_router() {
        let dir = tempfile::tempdir().unwrap();
        let auth = open(dir.path());
        let task = TaskId::random_v2();
        let headers = |token: String| {
            let mut headers = http::HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            headers
        };
        let verified = auth.verify_router_token(&headers(auth.issue_router_token(&task)));
        assert_eq!(verified.unwrap(), task);
        auth.verify_router_token(&headers(auth.issue_auth_token())).unwrap_err();
        auth.verify_router_token(&http::HeaderMap::new()).unwrap_err();
    }
}
