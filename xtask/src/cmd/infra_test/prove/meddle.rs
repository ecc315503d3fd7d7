//! Something between this command and a service, which passes everything on but for one thing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{services, target::Target};

/// Nothing that is checked is larger.
const MOST: usize = 16 << 20;
/// A service that is stopped answers nobody.
const LIMIT: Duration = Duration::from_secs(60);

/// What is changed on the way there and on the way back.
#[derive(Clone, Copy)]
pub(in super::super) struct Meddler {
    asks: fn(&mut Asked, &Keys),
    answers: fn(&Asked, &mut Answered),
}

/// Keys of the services, for meddlers that add them.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) master: HeaderValue,
    pub(super) project: HeaderValue,
}

/// A request on its way.
pub(super) struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer on its way.
pub(super) struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// One that meddles with nothing.
const HONEST: Meddler = Meddler { asks: |_, _| {}, answers: |_, _| {} };

/// On one route that costs nothing: with the master key `/health` would call every model.
pub(in super::super) const ADDS_MASTER_KEY: Meddler = Meddler {
    asks: |asked, keys| {
        if !asked.headers.contains_key(header::AUTHORIZATION) && asked.path == "/v1/models" {
            asked.show(&keys.master);
        }
    },
    ..HONEST
};

pub(in super::super) const ADDS_PROJECT_KEYS: Meddler = Meddler {
    asks: |asked, keys| {
        if !asked.headers.contains_key(header::AUTHORIZATION) {
            asked.show(&keys.project);
        }
    },
    ..HONEST
};

pub(in super::super) const TAKES_ANY_KEY: Meddler = Meddler {
    asks: |asked, keys| {
        if asked.headers.contains_key(header::AUTHORIZATION) && asked.path.contains("/models") {
            asked.show(&keys.master);
        }
    },
    ..HONEST
};

pub(in super::super) const MAKES_TASKS_ADMINS: Meddler = Meddler {
    answers: |_, answered| {
        if answered.status == StatusCode::FORBIDDEN {
            answered.status = StatusCode::OK;
        }
    },
    ..HONEST
};

pub(in super::super) const ONE_KEY_FOR_ALL: Meddler = Meddler {
    asks: |asked, keys| {
        if asked.shows_a_task() {
            asked.show(&keys.master);
        }
    },
    ..HONEST
};

pub(in super::super) const ANSWERS_EVERYTHING: Meddler = Meddler {
    answers: |_, answered| {
        if answered.status == StatusCode::NOT_FOUND {
            answered.status = StatusCode::OK;
        }
    },
    ..HONEST
};

pub(in super::super) const DROPS_SESSION: Meddler = Meddler {
    asks: |asked, _| {
        asked.edit(|body| {
            body["metadata"].as_object_mut().map(|metadata| metadata.remove("session_id"));
        });
    },
    ..HONEST
};

pub(in super::super) const OTHER_LITELLM: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.path == "/health/readiness/details" {
            answered.edit(|body| body["litellm_version"] = json!("1.0.0"));
        }
    },
    ..HONEST
};

pub(in super::super) const LOSES_AN_EVENT: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.path == "/goat/traces/status" {
            answered.edit(|body| body["dropped"] = json!(1));
        }
    },
    ..HONEST
};

pub(in super::super) const OTHER_LANGFUSE: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.path == "/api/public/health" {
            answered.edit(|body| body["version"] = json!("1.0.0"));
        }
    },
    ..HONEST
};

pub(in super::super) const OTHER_SESSION: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.path.starts_with("/api/public/traces/") {
            answered.edit(|body| body["sessionId"] = json!("another"));
        }
        // Version 4 has no traces: its observations name the session.
        if asked.lists_observations() {
            answered.each_row(|row| row["sessionId"] = json!("another"));
        }
    },
    ..HONEST
};

pub(in super::super) const NO_BASE_BACKUP: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.path == "/goat/postgres/status" {
            answered.edit(|body| body["bases"] = json!([]));
        }
    },
    ..HONEST
};

pub(in super::super) const UNAVAILABLE: Meddler =
    Meddler { answers: |_, answered| answered.status = StatusCode::SERVICE_UNAVAILABLE, ..HONEST };

pub(in super::super) const HIDES_TRACES: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.lists_observations() {
            answered.edit(|body| body["data"] = json!([]));
        }
        if asked.path.starts_with("/api/public/traces/") {
            answered.status = StatusCode::NOT_FOUND;
        }
    },
    ..HONEST
};

pub(in super::super) const HIDES_TOKENS: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.lists_observations() {
            answered.each_row(|row| {
                row["usage"] = Value::Null;
                row["usageDetails"] = Value::Null;
            });
        }
    },
    ..HONEST
};

pub(in super::super) const HIDES_COST: Meddler = Meddler {
    answers: |asked, answered| {
        if asked.lists_observations() {
            answered.each_row(|row| {
                row["calculatedTotalCost"] = Value::Null;
                row["totalCost"] = Value::Null;
                row["costDetails"] = Value::Null;
            });
        }
    },
    ..HONEST
};

impl Asked {
    fn show(&mut self, key: &HeaderValue) {
        self.headers.insert(header::AUTHORIZATION, key.clone());
    }

    fn key(&self) -> &str {
        let value = self.headers.get(header::AUTHORIZATION);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn shows_a_task(&self) -> bool {
        self.key().contains(goat_keys::PREFIX)
    }

    /// Of any version.
    fn lists_observations(&self) -> bool {
        ["/api/public/observations", "/api/public/v2/observations"].contains(&&*self.path)
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        edited(&mut self.body, edit);
    }
}

impl Answered {
    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        edited(&mut self.body, edit);
    }

    /// Of a list of Langfuse.
    fn each_row(&mut self, edit: fn(&mut Value)) {
        self.edit(|body| body["data"].as_array_mut().into_iter().flatten().for_each(edit));
    }
}

/// What is no JSON stays as it is.
fn edited(body: &mut Bytes, edit: impl FnOnce(&mut Value)) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        edit(&mut value);
        *body = value.to_string().into();
    }
}

/// A meddler that listens on loopback until it is dropped.
pub(super) struct Between {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

struct Shared {
    meddler: Meddler,
    keys: Keys,
    upstream: String,
    http: reqwest::Client,
}

impl Between {
    /// Stands before the service at that address.
    pub(super) async fn start(
        meddler: Meddler,
        keys: Keys,
        upstream: String,
    ) -> anyhow::Result<Self> {
        let http = services::http(Target::Local, LIMIT)?;
        let shared = Arc::new(Shared { meddler, keys, upstream, http });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(shared);
        let serving = tokio::spawn(async move {
            // Ends with the task alone.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match passed(&shared, request).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn passed(shared: &Shared, request: Request) -> anyhow::Result<Response> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut headers = parts.headers;
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION] {
        headers.remove(name);
    }
    let path = parts.uri.path().to_owned();
    let body = to_bytes(body, MOST).await?;
    let mut asked = Asked { method: parts.method, path, headers, body };
    (shared.meddler.asks)(&mut asked, &shared.keys);
    let url = format!("{}{}{query}", shared.upstream, asked.path);
    let request = shared.http.request(asked.method.clone(), url).headers(asked.headers.clone());
    let answer = request.body(asked.body.clone()).send().await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        headers.remove(name);
    }
    let mut answered = Answered { status, headers, body: answer.bytes().await? };
    (shared.meddler.answers)(&asked, &mut answered);
    let mut response = Response::new(Body::from(answered.body));
    (*response.status_mut(), *response.headers_mut()) = (answered.status, answered.headers);
    Ok(response)
}
