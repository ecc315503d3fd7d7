//! Which Langfuse answers: two products share one base path, and a client that guesses wrong loses data.
//!
//! Versions 2 and 3 take `POST /ingestion` and serve traces in pages. Version 4 in its default mode takes OTLP,
//! answers 207 with a refusal per item to the old events, and serves observations by cursor; the old reads are
//! gone. A version 4 that runs in version 3's write mode serves version 3's API, so the version number alone does
//! not decide. Seen on servers 2.95.12, 3.225.4 and 4.16.0.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

use crate::{
    client::Client,
    error::{Error, Result},
    http_call::{Call, refusal},
    json::Extra,
};

/// Which of the APIs a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiVersion {
    /// Langfuse 2: ingestion events, pages, PostgreSQL alone.
    V2,
    /// Langfuse 3, or 4 in version 3's write mode: ingestion events or OTLP, pages.
    V3,
    /// Langfuse 4: OTLP, cursors.
    V4,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "2",
            Self::V3 => "3",
            Self::V4 => "4",
        })
    }
}

/// What `GET /health` says; it needs no keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Health {
    /// `OK` where all is well.
    pub status: String,
    /// The server's version, for example `2.95.12`.
    pub version: String,
    /// What else the server said.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Health {
    /// The first number of the version.
    pub fn major(&self) -> Option<u32> {
        self.version.trim_start_matches('v').split('.').next()?.parse().ok()
    }
}

/// A server that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its version, as `/health` says.
    pub version: String,
    /// The API that it speaks.
    pub api: ApiVersion,
}

impl Client {
    /// Asks whether the server is well.
    ///
    /// # Errors
    /// [`Error::Server`] where it answers that it is not.
    pub async fn health(&self) -> Result<Health> {
        Call::get(self, "ask for health", &["health"]).anonymous().read(self).await
    }

    /// A header of the answer to that question: who stands in front of a server may have a word of its own.
    ///
    /// # Errors
    /// As [`Client::health`].
    pub async fn health_header(&self, name: &str) -> Result<Option<String>> {
        let call = Call::get(self, "ask for health", &["health"]).anonymous();
        let answer = call.succeed(self).await?;
        Ok(answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    /// Which server this is; asked once, by `/health` and, from version 3 on, one read of a single observation.
    ///
    /// # Errors
    /// Those of both calls; a failure is not remembered.
    pub async fn server(&self) -> Result<&Server> {
        self.server_cell().get_or_try_init(|| look(self)).await
    }

    /// The API that the server speaks; see [`Client::server`].
    ///
    /// # Errors
    /// As [`Client::server`].
    pub async fn api(&self) -> Result<ApiVersion> {
        Ok(self.server().await?.api)
    }
}

async fn look(client: &Client) -> Result<Server> {
    let health = client.health().await?;
    let api = match health.major() {
        Some(0..=2) => ApiVersion::V2,
        _ => newer(client).await?,
    };
    Ok(Server { version: health.version, api })
}

/// Version 4's list of observations exists from version 3 on, and answers only where version 4's tables are written.
async fn newer(client: &Client) -> Result<ApiVersion> {
    let operation = "find out which API the server speaks";
    let call =
        Call::get(client, operation, &["v2", "observations"]).query(&[("limit", "1".into())]);
    let (answer, attempts) = call.send(client).await?;
    let json = answer.headers.get(http::header::CONTENT_TYPE);
    let json = json.is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    match answer.status {
        StatusCode::OK => Ok(ApiVersion::V4),
        StatusCode::NOT_FOUND if json => Ok(ApiVersion::V3),
        StatusCode::NOT_FOUND => Ok(ApiVersion::V2),
        _ => Err(refusal(operation, attempts, &answer)),
    }
}

/// The error for an endpoint that this version lacks.
pub(crate) fn unsupported(
    operation: &'static str,
    version: ApiVersion,
    instead: &'static str,
) -> Error {
    Error::Unsupported { operation, version, instead }
}
