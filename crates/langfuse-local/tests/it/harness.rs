//! A server with a database of its own.

use langfuse_local::{Init, Secret, Server, Settings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use test_postgres::Postgres;

pub(crate) const PUBLIC: &str = "pk-lf-test";
pub(crate) const SECRET: &str = "sk-lf-test-1234";

/// The server, its database, and a client with the project's keys.
pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) postgres: Postgres,
    pub(crate) http: reqwest::Client,
}

pub(crate) fn settings(url: String, project: &str, keys: (&str, &str)) -> Settings {
    let init = Init {
        org_id: "org".into(),
        org_name: Some("Org".into()),
        project_id: Some(project.into()),
        project_name: Some("Project".into()),
        keys: Some((keys.0.into(), Secret::new(keys.1))),
        user: None,
        user_name: None,
    };
    Settings {
        database_url: Secret::new(url),
        listen: "127.0.0.1:0".parse().unwrap(),
        salt: Secret::new("pepper"),
        init: Some(init),
    }
}

impl Local {
    pub(crate) async fn start() -> Self {
        let postgres = Postgres::start("langfuse");
        let server = Server::start(settings(postgres.url(), "project", (PUBLIC, SECRET)));
        let server = server.await.unwrap();
        let http =
            reqwest::Client::builder().tls_backend_preconfigured(tls_config::client_config());
        Self { server, postgres, http: http.build().unwrap() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server.url()))
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request = self.request(method, path).basic_auth(PUBLIC, Some(SECRET));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A read that succeeds.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK.as_u16(), "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends events whose ids and times are made here; the bodies are the test's.
    pub(crate) async fn ingest(&self, events: &[(&str, Value)]) -> Value {
        let event = |(index, (kind, body)): (usize, &(&str, Value))| {
            let time = format!("2026-01-02T00:00:00.{index:03}Z");
            json!({ "id": format!("event-{index}"), "type": kind, "timestamp": time, "body": body })
        };
        let batch: Vec<Value> = events.iter().enumerate().map(event).collect();
        let (status, answer) =
            self.post("/api/public/ingestion", &json!({ "batch": batch, "metadata": {} })).await;
        assert_eq!(status, 207, "{answer}");
        answer
    }

    /// As [`Local::ingest`], where every event must be taken.
    pub(crate) async fn write(&self, events: &[(&str, Value)]) {
        let answer = self.ingest(events).await;
        assert_eq!(answer["errors"], json!([]), "{answer}");
        assert_eq!(answer["successes"].as_array().unwrap().len(), events.len());
    }
}
