//! Trying doors from outside: every route, with whatever key.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use eval_types::RunId;
use goat_keys::{Claims, SigningKeys};
use goat_services::app::{Access, OWN_ROUTES, Route};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::{context::Context, reach::Services, services};

/// How long the keys of this command live; five minutes more, as all of them.
const LIFE: Duration = Duration::from_secs(60);
/// The task of keys that this command makes.
pub(super) const TASK: &str = "infra-test";

/// What to show a door.
#[derive(Clone)]
pub(super) enum Shown {
    Nothing,
    Key(String),
    Login(String, String),
}

/// A door at an address.
pub(super) struct Outside {
    url: String,
    http: reqwest::Client,
}

impl Outside {
    pub(super) fn new(url: String, limit: Duration, context: &Context) -> anyhow::Result<Self> {
        Ok(Self { url, http: services::http(context.choice.target, limit)? })
    }

    /// The answer to a request.
    pub(super) async fn ask(
        &self,
        method: &Method,
        path: &str,
        shown: &Shown,
    ) -> anyhow::Result<reqwest::Response> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.url));
        let request = if *method == Method::GET { request } else { request.json(&EMPTY) };
        let answer = with(request, shown).send().await;
        answer.map_err(|error| {
            let url = &self.url;
            match error.is_timeout() {
                true => anyhow::anyhow!("{url} does not answer {path} in time"),
                false => {
                    anyhow::anyhow!("{url} does not answer {path}: {}", services::cause(&error))
                }
            }
        })
    }

    /// Tries every route with every key, and errs with those that are not answered as they should be.
    pub(super) async fn refuses(
        &self,
        routes: &[(Method, String)],
        keys: &[(&str, Shown)],
        wanted: &[StatusCode],
    ) -> anyhow::Result<usize> {
        let mut wrong = Vec::new();
        for (method, path) in routes {
            for (who, shown) in keys {
                let status = self.ask(method, path, shown).await?.status();
                if !wanted.contains(&status) {
                    wrong.push(format!("{method} {path} with {who}: {}", status.as_u16()));
                }
            }
        }
        let all: Vec<_> = wanted.iter().map(|status| status.as_u16().to_string()).collect();
        ensure!(
            wrong.is_empty(),
            "answered otherwise than with {}: {}",
            all.join(" or "),
            wrong.join(", ")
        );
        Ok(routes.len() * keys.len())
    }
}

const EMPTY: BTreeMap<String, String> = BTreeMap::new();

fn with(request: RequestBuilder, shown: &Shown) -> RequestBuilder {
    match shown {
        Shown::Nothing => request,
        Shown::Key(key) => request.bearer_auth(key),
        Shown::Login(name, password) => request.basic_auth(name, Some(password)),
    }
}

/// Requests for the routes of an access, one for each method.
pub(super) fn requests(routes: &[Route], access: Access) -> Vec<(Method, String)> {
    let mut requests: Vec<(Method, String)> = Vec::new();
    for route in routes.iter().filter(|route| route.access == access) {
        let path = route.path.replace('*', "status");
        match route.methods.is_empty() {
            true => requests.push((Method::GET, path)),
            false => requests.extend(
                route
                    .methods
                    .iter()
                    .filter_map(|method| Some((method.parse().ok()?, path.clone()))),
            ),
        }
    }
    requests
}

/// Those that the proxy's door answers by itself.
pub(super) fn own_requests() -> Vec<(Method, String)> {
    let request = |(method, path): (&str, &str)| Some((method.parse().ok()?, path.to_owned()));
    OWN_ROUTES.into_iter().filter_map(request).collect()
}

/// Keys of a run that this command makes up.
pub(super) struct TaskKey {
    pub(super) run: RunId,
    pub(super) text: String,
}

impl TaskKey {
    /// One that the proxy takes, for that model.
    pub(super) fn issue(services: &Services<'_>, model: &str) -> anyhow::Result<Self> {
        let secret = services.secret(&["GOAT_TASK_SIGNING_KEY"])?;
        let signing = SigningKeys::parse(secret.expose());
        let signing = signing.context("GOAT_TASK_SIGNING_KEY can't sign")?;
        Self::signed(&signing, model, Timestamp::now())
    }

    /// One whose time is over.
    pub(super) fn expired(services: &Services<'_>, model: &str) -> anyhow::Result<Self> {
        let secret = services.secret(&["GOAT_TASK_SIGNING_KEY"])?;
        let day = Duration::from_secs(24 * 3600);
        Self::signed(&SigningKeys::parse(secret.expose())?, model, Timestamp::now() - day)
    }

    /// One that somebody else signed.
    pub(super) fn foreign(model: &str) -> anyhow::Result<Self> {
        Self::signed(&SigningKeys::generate()?, model, Timestamp::now())
    }

    fn signed(signing: &SigningKeys, model: &str, now: Timestamp) -> anyhow::Result<Self> {
        let run = RunId::new(Timestamp::now());
        let claims = Claims::for_trial(run.clone(), TASK.parse()?, LIFE, now);
        let text = signing.issue(&claims.with_models([model]))?.expose().to_owned();
        Ok(Self { run, text })
    }
}
