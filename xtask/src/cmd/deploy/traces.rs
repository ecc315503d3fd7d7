//! Where traces will go, and the versions that get them there. What would lose them is refused before anything is
//! built.

use std::time::Duration;

use anyhow::Context as _;
use goat_services::{
    SecretString,
    app::{ExistingLangfuse, Traces},
};
use langfuse_client::{Client, Config, RetryPolicy, SecretKey};
use litellm_config::VersionSet;
use reqwest::Url;

use super::{Args, Only};
use crate::{cmd::litellm::versions::Versions, context::Context, exit::UsageError};

/// The app's own Langfuse.
const OWN_VERSION: u32 = 2;
/// One question to an existing Langfuse.
const ANSWER: Duration = Duration::from_secs(10);
/// By which a container of the embedded server reaches a server of this machine.
const OPENED_PORTS: &str = "MODAL_LOCAL_OPENED_PORTS";

/// Where traces go.
pub(super) struct Destination {
    pub(super) traces: Traces,
    /// What sends them.
    pub(super) set: &'static VersionSet,
    /// The major version of the server.
    pub(super) server: u32,
}

impl Destination {
    /// The existing Langfuse, where that is it.
    pub(super) fn existing(&self) -> Option<&ExistingLangfuse> {
        match &self.traces {
            Traces::Own => None,
            Traces::Existing(existing) => Some(existing),
        }
    }

    /// The variable that opens the port of an existing Langfuse on this machine to the proxy's container.
    pub(super) fn opened_port(&self) -> Option<(String, SecretString)> {
        let url = Url::parse(&self.existing()?.url).ok()?;
        let is_here = matches!(url.host_str()?, "localhost" | "127.0.0.1");
        let address = format!("127.0.0.1:{}", url.port_or_known_default()?);
        is_here.then(|| (OPENED_PORTS.to_owned(), address.into()))
    }
}

/// Decides, and asks an existing Langfuse for its version and whether it takes the keys.
pub(super) async fn choose(args: &Args, context: &Context) -> anyhow::Result<Destination> {
    let Some(url) = &args.versions.langfuse_url else { return own(&args.versions) };
    if args.only == Some(Only::Langfuse) {
        let text = "--langfuse-url is for the proxy: with it the function langfuse is not sent";
        return Err(UsageError(text.to_owned()).into());
    }
    let variables = args.sources.variables(context)?;
    let (set, server) = args.versions.choose(&variables).await?;
    Versions::must_deliver(set, server)?;
    let key = |name: &str| {
        let missing = || UsageError(format!("--langfuse-url needs that server's {name}"));
        anyhow::Ok(SecretString::from(&**variables.get(name).ok_or_else(missing)?))
    };
    let existing = ExistingLangfuse {
        url: without_credentials(url)?,
        public_key: key("LANGFUSE_PUBLIC_KEY")?,
        secret_key: key("LANGFUSE_SECRET_KEY")?,
    };
    takes_keys(&existing).await?;
    let server = server.unwrap_or_default();
    Ok(Destination { traces: Traces::Existing(existing), set, server })
}

/// The app's own Langfuse, which is of version 2.
fn own(versions: &Versions) -> anyhow::Result<Destination> {
    if versions.langfuse_version.is_some() {
        let text = "--langfuse-version is about the Langfuse of --langfuse-url";
        return Err(UsageError(text.to_owned()).into());
    }
    let set = versions.named_set()?.unwrap_or_else(VersionSet::default_set);
    Versions::must_deliver(set, Some(OWN_VERSION))?;
    Ok(Destination { traces: Traces::Own, set, server: OWN_VERSION })
}

/// What is deployed is shown and recorded: no password may stand in it.
fn without_credentials(url: &str) -> anyhow::Result<String> {
    let unusable = |why: String| UsageError(format!("--langfuse-url: {why}"));
    let parsed = Url::parse(url).map_err(|error| unusable(error.to_string()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let why = "a user or password in the address would be shown; keys are variables";
        return Err(unusable(why.to_owned()).into());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Traces with keys that are not the project's would wait for ever.
async fn takes_keys(existing: &ExistingLangfuse) -> anyhow::Result<()> {
    let ExistingLangfuse { url, public_key, secret_key } = existing;
    let secret = SecretKey::new(secret_key.expose().to_owned());
    let config = Config::new(url, public_key.expose(), secret)?;
    let config = config.with_timeout(ANSWER).with_retry(RetryPolicy::never());
    let asked = Client::new(config)?.projects().await;
    asked.with_context(|| format!("Langfuse at {url} takes no traces with these keys"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(url: &str) -> Destination {
        let (public_key, secret_key) = ("pk".into(), "sk".into());
        let traces = Traces::Existing(ExistingLangfuse { url: url.into(), public_key, secret_key });
        Destination { traces, set: VersionSet::default_set(), server: 4 }
    }

    #[test]
    fn a_port_of_this_machine_is_opened_and_nothing_else() {
        let opened = |url: &str| to(url).opened_port().map(|(_, value)| value.expose().to_owned());
        assert_eq!(opened("http://localhost:3001").as_deref(), Some("127.0.0.1:3001"));
        assert_eq!(opened("http://127.0.0.1/x").as_deref(), Some("127.0.0.1:80"));
        for url in ["https://langfuse.example", "http://10.0.0.1:3000"] {
            assert_eq!(opened(url), None, "{url}");
        }
    }

    #[test]
    fn what_would_lose_traces_or_show_a_password_is_refused() {
        let versions = |set: Option<&str>, langfuse_version| Versions {
            set: set.map(str::to_owned),
            langfuse_url: None,
            langfuse_version,
        };
        assert_eq!(own(&versions(None, None)).unwrap().set.name, "langfuse-2");
        let lost = own(&versions(Some("langfuse-3"), None)).err().unwrap().to_string();
        assert!(lost.contains("which Langfuse 2 does not have"), "{lost}");
        assert!(own(&versions(None, Some(3))).is_err());
        assert!(without_credentials("https://user:word@langfuse.example").is_err());
        assert_eq!(without_credentials("https://a.example/").unwrap(), "https://a.example");
    }
}
