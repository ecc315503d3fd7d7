//! Questions to the database of another container, answered in the words of `psql` and `pg_dump`.
//!
//! Its supervisor's routes do the work; this is what a function of the same app calls, so that who used to call that
//! function reads what he used to read: a table, a dump, or a text that begins with `ERROR`, `psql error:` or
//! `pg_dump error:` (source of these words: `modal_services.py` of jack-phare/goat at dd706f5).

mod table;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use secret_string::SecretString;
use serde::Deserialize;
use serde_json::json;

use self::table::Table;
use crate::error::chain;

/// The server's own limit of a query is 30 s.
const QUERY: Duration = Duration::from_secs(40);
const DUMP: Duration = Duration::from_secs(120);

/// What is asked.
pub(crate) enum Question {
    Sql(String),
    Dump,
}

/// What there is to say.
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) is_answer: bool,
}

/// Asks the container at `url`.
pub(crate) async fn ask(question: &Question, url: &str, password: &SecretString) -> Asked {
    let said = match question {
        Question::Sql(sql) if sql.trim().is_empty() => {
            Err("ERROR: no SQL was given, and no dump was asked for".to_owned())
        }
        Question::Sql(sql) => query(sql, url, password).await,
        Question::Dump => dump(url, password).await,
    };
    let is_answer = said.is_ok();
    Asked { text: said.unwrap_or_else(|words| words), is_answer }
}

async fn query(sql: &str, url: &str, password: &SecretString) -> Result<String, String> {
    let error = |words: String| format!("ERROR: {words}");
    let client = client(QUERY).map_err(error)?;
    let request = client.post(format!("{url}/goat/postgres/query")).json(&json!({ "sql": sql }));
    let answer = send(request, password).await.map_err(error)?;
    match answer.status() {
        status if status.is_success() => {
            let table: Table = answer.json().await.map_err(|it| error(chain(&it)))?;
            Ok(table.render())
        }
        StatusCode::BAD_REQUEST => Err(format!("psql error: ERROR:  {}", words(answer).await)),
        _ => Err(error(words(answer).await)),
    }
}

async fn dump(url: &str, password: &SecretString) -> Result<String, String> {
    let error = |words: String| format!("pg_dump error: {words}");
    let client = client(DUMP).map_err(error)?;
    let answer = send(client.get(format!("{url}/goat/postgres/dump")), password).await;
    let answer = answer.map_err(error)?;
    if !answer.status().is_success() {
        return Err(error(words(answer).await));
    }
    // A stream that breaks off is no dump.
    answer.text().await.map_err(|it| error(chain(&it)))
}

fn client(limit: Duration) -> Result<Client, String> {
    let client = Client::builder().tls_backend_preconfigured(tls_config::client_config());
    client.timeout(limit).build().map_err(|error| chain(&error))
}

async fn send(request: RequestBuilder, password: &SecretString) -> Result<Response, String> {
    let sent = request.bearer_auth(password.expose()).send().await;
    // The address is no secret, but says nothing to who called.
    sent.map_err(|error| chain(&error.without_url()))
}

/// Why there is no answer, as the route or the door says it.
async fn words(answer: Response) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Why,
    }
    #[derive(Deserialize)]
    struct Why {
        message: String,
    }
    let status = answer.status();
    match answer.json::<Refusal>().await {
        Ok(refusal) => refusal.error.message,
        Err(_) => format!("the database's container answers {status}"),
    }
}
