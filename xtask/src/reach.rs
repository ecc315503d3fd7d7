//! The deployed services: where they are, and what opens them.
//!
//! An address is the one of the flag, else the one of a variable, else that of the deployed app's web function.
//! Keys are variables only, as `setup` writes them: a command line is for everybody to see.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use goat_services::{SecretString, app::APP};
use langfuse_client::{Client, Config, SecretKey};
use serde_json::Value;

use crate::{
    backend, cmd::litellm::environment::Sources, context::Context, exit::UsageError, services,
};

/// Longest wait for an answer of the proxy: a call of a model is among them.
const ANSWER: Duration = Duration::from_secs(120);
/// The proxy, in messages.
const PROXY: &str = "the proxy";
/// Longest time of a dump.
const LONG: Duration = Duration::from_secs(3600);

/// Where the services are.
#[derive(clap::Args)]
pub(crate) struct ServiceArgs {
    /// Address of the proxy [default: LITELLM_BASE_URL, else that of the deployed app]
    #[arg(long, value_name = "URL")]
    litellm_url: Option<String>,
    /// Address of Langfuse [default: LANGFUSE_HOST or LANGFUSE_BASE_URL, else that of the deployed app]
    #[arg(long, value_name = "URL")]
    langfuse_url: Option<String>,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// The services as a command sees them.
pub(crate) struct Services<'a> {
    args: &'a ServiceArgs,
    context: &'a Context,
    variables: BTreeMap<String, String>,
}

impl<'a> Services<'a> {
    /// Reads the variables; asks nobody yet.
    pub(crate) fn new(args: &'a ServiceArgs, context: &'a Context) -> anyhow::Result<Self> {
        Ok(Self { args, context, variables: args.sources.variables(context)? })
    }

    /// The first of these variables that is set.
    pub(crate) fn variable(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.variables.get(*name)).map(String::as_str)
    }

    /// The first of these variables that is set, as a secret.
    pub(crate) fn secret(&self, names: &[&str]) -> anyhow::Result<SecretString> {
        let missing = || {
            UsageError(format!(
                "{} is not set: `cargo xtask setup` writes it to .env",
                names.join(" or ")
            ))
        };
        Ok(self.variable(names).ok_or_else(missing)?.into())
    }

    /// The proxy, with the key of administrators.
    pub(crate) async fn litellm(&self) -> anyhow::Result<Door> {
        let key = self.secret(&["LITELLM_MASTER_KEY", "LITELLM_API_KEY"])?;
        Door::new(PROXY, &self.litellm_url().await?, key)
    }

    /// The proxy, with another key.
    pub(crate) async fn litellm_as(&self, key: SecretString) -> anyhow::Result<Door> {
        Door::new(PROXY, &self.litellm_url().await?, key)
    }

    /// Where the proxy is.
    pub(crate) async fn litellm_url(&self) -> anyhow::Result<String> {
        let flag = self.args.litellm_url.as_deref();
        self.address("litellm", flag, &["LITELLM_BASE_URL"]).await
    }

    /// The public and the secret key of Langfuse's project.
    pub(crate) fn project_keys(&self) -> anyhow::Result<(SecretString, SecretString)> {
        let public = ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_INIT_PROJECT_PUBLIC_KEY"];
        let secret = ["LANGFUSE_SECRET_KEY", "LANGFUSE_INIT_PROJECT_SECRET_KEY"];
        Ok((self.secret(&public)?, self.secret(&secret)?))
    }

    /// Langfuse, as the project's client.
    pub(crate) async fn langfuse(&self) -> anyhow::Result<Client> {
        let (public, secret) = self.project_keys()?;
        let secret = SecretKey::new(secret.expose().to_owned());
        Ok(Client::new(Config::new(&self.traces_url().await?, public.expose(), secret)?)?)
    }

    /// Langfuse's database, by the supervisor beside it.
    pub(crate) async fn postgres(&self) -> anyhow::Result<Door> {
        let key = self.secret(&["POSTGRES_PASSWORD"])?;
        Door::new("Langfuse's supervisor", &self.langfuse_url().await?, key)
    }

    /// Where traces are: as Langfuse, but for a proxy that was deployed for an existing one.
    pub(crate) async fn traces_url(&self) -> anyhow::Result<String> {
        if let Some(url) = self.named_langfuse() {
            return Ok(without_version(url).to_owned());
        }
        let (client, _server) = backend::client(self.context).await?;
        let record = services::current(&client).await?.and_then(|current| current.record);
        match record.and_then(|record| record.traces_to) {
            Some(url) => Ok(url),
            None => self.langfuse_url().await,
        }
    }

    /// By a flag or a variable.
    fn named_langfuse(&self) -> Option<&str> {
        let flag = self.args.langfuse_url.as_deref();
        flag.or_else(|| self.variable(&["LANGFUSE_HOST", "LANGFUSE_BASE_URL"]))
    }

    /// Where the app's own Langfuse is.
    pub(crate) async fn langfuse_url(&self) -> anyhow::Result<String> {
        self.address("langfuse", self.named_langfuse(), &[]).await
    }

    async fn address(
        &self,
        function: &str,
        flag: Option<&str>,
        variables: &[&str],
    ) -> anyhow::Result<String> {
        if let Some(url) = flag.or_else(|| self.variable(variables)) {
            return Ok(without_version(url).to_owned());
        }
        let (client, _server) = backend::client(self.context).await?;
        let target = self.context.choice.target.name();
        let found = client.function(APP, function).await.with_context(|| {
            format!(
                "no address of {function} is known: `{APP}` has none on target {target}; deploy it, or give --{function}-url"
            )
        })?;
        let url = found.web_url().with_context(|| {
            format!("function `{function}` of `{APP}` has no address: it was not deployed by this workspace")
        })?;
        Ok(url.trim_end_matches('/').to_owned())
    }
}

/// Some give the address with the `/v1` that OpenAI's clients want.
fn without_version(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url)
}

/// A service behind its door.
pub(crate) struct Door {
    name: &'static str,
    url: String,
    key: SecretString,
    http: reqwest::Client,
}

impl Door {
    pub(crate) fn new(name: &'static str, url: &str, key: SecretString) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER)
            .build()?;
        Ok(Self { name, url: url.to_owned(), key, http })
    }

    /// The JSON at that path.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.http.get(self.at(path)), path).await
    }

    /// What is answered to that body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.http.post(self.at(path)).json(body), path).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The answer at that path as it comes, however long it takes.
    pub(crate) async fn open(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        self.send(self.http.get(self.at(path)).timeout(LONG), path).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder, path: &str) -> anyhow::Result<Value> {
        let Self { name, url, .. } = self;
        let answer = self.send(request, path).await?;
        let text = answer.text().await.with_context(|| format!("{name}'s answer broke off"))?;
        serde_json::from_str(&text).with_context(|| {
            format!("{name} at {url} answers {path} with something that is no JSON")
        })
    }

    /// An answer that is a success.
    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
    ) -> anyhow::Result<reqwest::Response> {
        let Self { name, url, .. } = self;
        let answer = request.bearer_auth(self.key.expose()).send().await;
        let answer = answer.with_context(|| format!("{name} at {url} does not answer"))?;
        let status = answer.status();
        if !status.is_success() {
            let text = answer.text().await.unwrap_or_default();
            bail!("{name} at {url} answers {status} to {path}: {}", words(&text));
        }
        Ok(answer)
    }
}

/// What a service says went wrong, in OpenAI's shape or another.
fn words(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let message = value["error"]["message"].as_str().or_else(|| value["message"].as_str());
    crate::table::short(message.unwrap_or(text), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_end_as_clients_want_it() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
            assert_eq!(without_version(url), "http://h:1");
        }
    }

    #[test]
    fn what_a_service_says_is_found() {
        assert_eq!(words(r#"{"error": {"message": "no key", "code": "401"}}"#), "no key");
        assert_eq!(words(r#"{"message": "bad"}"#), "bad");
        assert_eq!(words("plain\n text"), "plain text");
    }
}
