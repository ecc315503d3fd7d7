//! The model's server: where it is, with which key, and whether it answers.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::{Error, Result, secret::Secret};

/// Time to connect to a model's server.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence in an answer: slow models think for minutes.
const SILENCE: Duration = Duration::from_secs(600);
/// Time for the list of models.
const LIST: Duration = Duration::from_secs(20);
/// Names of models in a message.
const NAMED: usize = 8;

/// An OpenAI-compatible server.
#[derive(Clone, Debug)]
pub struct Upstream {
    base: String,
    host: String,
    is_local: bool,
    key: Option<Secret>,
}

/// What a server said when it was asked for its models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its models; empty where it does not tell.
    pub models: Vec<String>,
    /// Who owns them, as it says.
    pub owners: Vec<String>,
    /// Whether it is a LiteLLM proxy.
    pub is_litellm: bool,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    owned_by: String,
}

impl Upstream {
    /// A server by its address, with or without the `/v1`. An address with a path is taken as it is.
    pub fn new(url: &str, key: Option<Secret>) -> Result<Self> {
        let bad = || Error::ModelUrl { url: without_credentials(url) };
        if key.as_ref().is_some_and(|key| !fits_header(key)) {
            return Err(Error::KeyCharacters);
        }
        let parsed = Url::parse(url.trim()).map_err(|_| bad())?;
        let has_password = !parsed.username().is_empty() || parsed.password().is_some();
        if has_password || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(Error::ModelUrlParts { url: without_credentials(url) });
        }
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad());
        }
        let host = parsed.host_str().ok_or_else(bad)?.to_owned();
        let is_local = match parsed.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let mut base = format!("{}{}", parsed.origin().ascii_serialization(), parsed.path());
        base.truncate(base.trim_end_matches('/').len());
        if parsed.path().trim_matches('/').is_empty() {
            base.push_str("/v1");
        }
        Ok(Self { base, host, is_local, key })
    }

    /// The address with its `/v1`, no slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Its key.
    pub fn key(&self) -> Option<&Secret> {
        self.key.as_ref()
    }

    /// A client for it: no redirects, since they would carry the key elsewhere.
    pub(super) fn client(&self) -> reqwest::Result<Client> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        // A proxy of the environment is for the outside.
        let client = if self.is_local { client.no_proxy() } else { client };
        client.build()
    }

    /// Asks for the list of models: tells a wrong key and an unreachable address apart. A server
    /// without such a list is fine.
    pub async fn probe(&self) -> Result<Found> {
        let url = || self.base.clone();
        let unreachable = |source: reqwest::Error| Error::ModelUnreachable {
            url: url(),
            source: root_cause(&source).into(),
        };
        let client = self.client().map_err(unreachable)?;
        let mut request = client.get(format!("{}/models", self.base)).timeout(LIST);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose());
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Error::ModelKey { url: url(), status: status.as_u16() });
        }
        let models = match status.is_success() {
            true => answer.json::<Models>().await.map(|models| models.data).unwrap_or_default(),
            false => Vec::new(),
        };
        let is_litellm = self.is_litellm(&client).await;
        let owners = models.iter().map(|model| model.owned_by.clone()).collect();
        Ok(Found { models: models.into_iter().map(|model| model.id).collect(), owners, is_litellm })
    }

    /// Whether it says of itself what a LiteLLM proxy says, at the path where that does, without a key.
    async fn is_litellm(&self, client: &Client) -> bool {
        let root = self.base.trim_end_matches("/v1");
        let request = client.get(format!("{root}/health/liveliness")).timeout(LIST).send();
        let Ok(answer) = request.await else { return false };
        answer.status().is_success()
            && answer.text().await.is_ok_and(|text| text.trim() == r#""I'm alive!""#)
    }
}

impl Found {
    /// Errs if the server has a list and the model is not on it.
    pub fn require(&self, upstream: &Upstream, model: &str) -> Result<()> {
        if self.models.is_empty() || self.models.iter().any(|known| known == model || known == "*")
        {
            return Ok(());
        }
        let mut known: Vec<String> = self.models.iter().take(NAMED).cloned().collect();
        if self.models.len() > NAMED {
            known.push(format!("{} more", self.models.len() - NAMED));
        }
        let url = upstream.base_url().to_owned();
        Err(Error::UnknownModel { url, model: model.to_owned(), known })
    }
}

/// What the system said: the layers above it only name each other.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Whether a key can be sent: a line break, as of a file read whole, can't.
fn fits_header(key: &Secret) -> bool {
    key.expose().bytes().all(|byte| byte.is_ascii_graphic())
}

/// For a message: whatever stands before an `@` may be a password, and a query may hold a key.
fn without_credentials(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?****"));
    let url = match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(at)) if start + 3 <= at => {
            format!("{}://****{}", &url[..start], &url[at..])
        }
        _ => url.to_owned(),
    };
    url + query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_is_added_once() {
        let cases = [
            ("https://api.example.com", "https://api.example.com/v1"),
            ("https://api.example.com/", "https://api.example.com/v1"),
            ("https://api.example.com/v1", "https://api.example.com/v1"),
            ("https://api.example.com/v1/", "https://api.example.com/v1"),
            ("http://127.0.0.1:4000/openai/v1", "http://127.0.0.1:4000/openai/v1"),
        ];
        for (given, taken) in cases {
            assert_eq!(Upstream::new(given, None).unwrap().base_url(), taken);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        let bad = [
            "",
            "localhost:4000",
            "ftp://x/",
            "https://user:hunter2@x/v1",
            "https://x/v1?api-key=hunter2",
        ];
        for url in bad {
            let error = Upstream::new(url, None).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_key_that_no_header_carries_is_refused_without_being_shown() {
        for key in ["sk-hunter2\n", "sk-hunter2 x", "sk-hünter2"] {
            let error = Upstream::new("http://127.0.0.1:1", Some(Secret::new(key))).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("nter2"), "{error}");
        }
    }

    #[test]
    fn a_model_that_is_not_on_the_list_is_named_with_those_that_are() {
        let upstream = Upstream::new("http://127.0.0.1:1", None).unwrap();
        let found =
            Found { models: vec!["a".into(), "b".into()], owners: vec![], is_litellm: false };
        assert!(found.require(&upstream, "b").is_ok());
        let error = found.require(&upstream, "c").unwrap_err();
        assert_eq!(error.to_string(), "http://127.0.0.1:1/v1 knows no model `c`; it has a, b");
    }
}
