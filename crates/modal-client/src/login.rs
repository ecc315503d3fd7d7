//! Getting a token through a browser, and asking whose token one has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modal_proto::client as api;
use secret_string::SecretString;

use crate::{
    client::Client,
    config::Config,
    error::{Error, Operation, Result},
    rpc::methods,
};

/// How long the server holds one question for the token.
const POLL: Duration = Duration::from_secs(40);
/// How much longer the answer may take.
const POLL_SLACK: Duration = Duration::from_secs(5);

/// A login that is under way: a person confirms it in a browser.
#[derive(Debug, Clone)]
pub struct TokenFlow {
    client: Client,
    id: String,
    web_url: String,
    code: String,
    wait_secret: SecretString,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewToken {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
    /// The workspace that it is for.
    pub workspace: String,
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: Option<String>,
    /// The workspace that it is for.
    pub workspace: String,
    /// The user or service user that it speaks for.
    pub user: Option<String>,
    /// When it ends, if it does.
    pub expires_at: Option<SystemTime>,
}

impl TokenFlow {
    /// Begins a login at the server of `config`, whose token is not used. `localhost_port` is where this machine
    /// answers the browser with [`id`](Self::id), so that the page can tell who asks; 0 where it does not.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no server answers.
    pub async fn start(config: Config, localhost_port: u16) -> Result<Self> {
        let client = Client::anonymous(config).await?;
        let query = api::TokenFlowCreateRequest {
            localhost_port: localhost_port.into(),
            ..Default::default()
        };
        let operation = Operation::new("begin", "a login");
        let answer = client.call(&methods::TOKEN_FLOW_CREATE, &query, operation).await?;
        Ok(Self {
            client,
            id: answer.token_flow_id,
            web_url: answer.web_url,
            code: answer.code,
            wait_secret: answer.wait_secret.into(),
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The page on which a person confirms it.
    pub fn web_url(&self) -> &str {
        &self.web_url
    }

    /// What that page must show or be told, where the server says it.
    pub fn code(&self) -> Option<&str> {
        Some(self.code.as_str()).filter(|code| !code.is_empty())
    }

    /// Waits until it is confirmed, as long as it takes. One RPC every 40 seconds.
    pub async fn wait(&self) -> Result<NewToken> {
        loop {
            let operation = || Operation::new("wait for", "a login");
            let query = api::TokenFlowWaitRequest {
                timeout: POLL.as_secs_f32(),
                token_flow_id: self.id.clone(),
                wait_secret: self.wait_secret.expose().to_owned(),
            };
            let method = &methods::TOKEN_FLOW_WAIT;
            let mut options = self.client.options(method, operation()).await?;
            options.deadline = Some(POLL + POLL_SLACK);
            let answer = self.client.call_with(method, &query, options).await?;
            if answer.timeout {
                continue;
            }
            if answer.token_id.is_empty() || answer.token_secret.is_empty() {
                return Err(Error::protocol(operation(), "there is no token in the answer"));
            }
            return Ok(NewToken {
                id: answer.token_id,
                secret: answer.token_secret.into(),
                workspace: answer.workspace_username,
            });
        }
    }
}

impl Client {
    /// Whose the token of this client is. One RPC.
    pub async fn token_info(&self) -> Result<TokenInfo> {
        let operation = Operation::new("look up", "the token");
        let query = api::TokenInfoGetRequest {};
        let answer = self.call(&methods::TOKEN_INFO_GET, &query, operation).await?;
        use api::token_info_get_response::Identity;
        let user = answer.identity.map(|identity| match identity {
            Identity::UserIdentity(user) => user.username,
            Identity::ServiceUserIdentity(user) => user.service_user_name,
        });
        Ok(TokenInfo {
            id: answer.token_id,
            name: Some(answer.token_name).filter(|name| !name.is_empty()),
            workspace: answer.workspace_name,
            user: user.filter(|user| !user.is_empty()),
            expires_at: answer.expires_at.and_then(|at| {
                UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(at.seconds).ok()?))
            }),
        })
    }
}
