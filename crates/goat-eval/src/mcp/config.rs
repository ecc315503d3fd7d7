//! The file of `--mcp-config`: which servers there are and how they are reached.
//!
//! Both shapes are read: `{"files": {"command": …}}` and `{"mcpServers": {"files": {"command": …}}}`. `${NAME}` and
//! `${NAME:-else}` stand for variables that the caller allows by name. What is in the file may be secret (a header, a
//! variable's value), so none of it is shown but names, programs and addresses without credentials.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{hardening::Environment, secret::Secret};

/// Time for one call, unless the server's entry says otherwise.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time for one call at most, whatever progress a server reports.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(1_800);

/// A server to start or to reach.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name, as the file has it.
    pub name: String,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Time for one call without news of progress.
    pub timeout: Duration,
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A program that speaks over its input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<Secret>,
        /// Variables besides those that commands of tools get.
        env: Vec<(String, Secret)>,
        /// Its directory; none: the run's.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http(Remote),
    /// HTTP with a stream of events, as before protocol version 2025-03-26.
    Sse(Remote),
}

/// A server behind an address.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The address.
    pub url: Secret,
    /// Headers of each request.
    pub headers: Vec<(String, Secret)>,
}

/// What is wrong with the file. No message holds a value of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not JSON.
    #[error("it is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// There is no object of servers, or an empty one.
    #[error("it names no server")]
    NoServers,
    /// A server's entry can't be used.
    #[error("server `{server}`: {reason}")]
    BadServer {
        /// The server.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Seconds.
    timeout: Option<f64>,
    #[serde(default)]
    disabled: bool,
}

/// Values that `${NAME}` may stand for.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<(String, Option<Secret>)>);

impl Variables {
    /// The variables that the caller allows by name, with the values that they have.
    ///
    /// The model's key is none of them, under whatever name it is found.
    pub fn allowed(names: &[String], environment: &Environment) -> Self {
        let key = environment.secret("OPENAI_API_KEY").filter(|key| key.expose().len() >= 8);
        let value = |name: &String| {
            let public = environment.get(name).map(Secret::new);
            let value = public.or_else(|| environment.secret(name))?;
            let holds_key = name == "OPENAI_API_KEY"
                || key.as_ref().is_some_and(|key| value.expose().contains(key.expose()));
            (!holds_key).then_some(value)
        };
        Variables(names.iter().map(|name| (name.clone(), value(name))).collect())
    }

    /// Values that were allowed for their secrecy: they are masked in what the run writes.
    pub fn secrets(&self) -> impl Iterator<Item = Secret> + '_ {
        self.0.iter().filter(|(name, _)| sounds_secret(name)).filter_map(|(_, value)| value.clone())
    }

    fn get(&self, name: &str) -> Result<Option<&Secret>, String> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value.as_ref()),
            None => Err(format!("`${{{name}}}` is not allowed: name it with --mcp-env")),
        }
    }

    /// `text` with `${NAME}` and `${NAME:-else}` replaced.
    fn expand(&self, text: &str) -> Result<Secret, String> {
        let (mut expanded, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else { break };
            let (name, fallback) = match inside[..end].split_once(":-") {
                Some((name, fallback)) => (name, Some(fallback)),
                None => (&inside[..end], None),
            };
            expanded.push_str(&rest[..at]);
            match (self.get(name), fallback) {
                (Ok(Some(value)), _) => expanded.push_str(value.expose()),
                (_, Some(fallback)) => expanded.push_str(fallback),
                (Ok(None), None) => {
                    return Err(format!("`${{{name}}}` has no value that may be used"));
                }
                (Err(reason), None) => return Err(reason),
            }
            rest = &inside[end + 1..];
        }
        expanded.push_str(rest);
        Ok(Secret::new(expanded))
    }
}

impl ServerConfig {
    /// What in its entry may be secret: headers, what an address holds beside host and path, and variables whose names
    /// sound like it.
    pub fn secrets(&self) -> Vec<Secret> {
        match &self.endpoint {
            Endpoint::Stdio { env, .. } => env
                .iter()
                .filter(|(name, _)| sounds_secret(name))
                .map(|(_, value)| value.clone())
                .collect(),
            Endpoint::Http(remote) | Endpoint::Sse(remote) => {
                let values = remote.headers.iter().map(|(_, value)| value.expose());
                // `Bearer` and `Basic` are no secrets, what follows is.
                let values =
                    values.map(|value| Secret::new(value.rsplit(' ').next().unwrap_or(value)));
                values.chain(secrets_of_address(remote.url.expose())).collect()
            }
        }
    }
}

/// Password, query and the values in it: `?api_key=…` is how some servers are paid for.
fn secrets_of_address(url: &str) -> Vec<Secret> {
    let Ok(url) = reqwest::Url::parse(url) else { return Vec::new() };
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    let whole = [url.password(), url.query()].into_iter().flatten().map(str::to_owned);
    values.chain(whole).map(Secret::new).collect()
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"].iter().any(|word| name.contains(word))
}

/// Reads the file's text.
pub fn parse(text: &str, variables: &Variables) -> Result<Vec<ServerConfig>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value: Value = serde_json::from_str(text).map_err(ConfigError::NotJson)?;
    let servers =
        servers(value).filter(|servers| !servers.is_empty()).ok_or(ConfigError::NoServers)?;
    let mut found = Vec::new();
    for (name, value) in servers {
        let bad = |reason: String| ConfigError::BadServer { server: name.clone(), reason };
        let raw = Raw::deserialize(value).map_err(|error| bad(plain(&error)))?;
        if !raw.disabled {
            found.push(server(&name, raw, variables).map_err(bad)?);
        }
    }
    Ok(found)
}

/// The object of servers in either shape. A server may itself be called `mcpServers`.
fn servers(value: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut map) = value else { return None };
    let is_server = |value: &Value| value["command"].is_string() || value["url"].is_string();
    match map.get("mcpServers") {
        Some(Value::Object(inner)) if !is_server(&Value::Object(inner.clone())) => {
            let Some(Value::Object(inner)) = map.remove("mcpServers") else { return None };
            Some(inner)
        }
        _ => Some(map),
    }
}

/// A parser's words without the value that it quotes.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find(": "), text.find(", expected ")) {
        (Some(start), Some(end)) if text.starts_with("invalid") => {
            format!("{}{}", &text[..start], &text[end..])
        }
        _ => text,
    }
}

fn server(name: &str, raw: Raw, variables: &Variables) -> Result<ServerConfig, String> {
    let timeout = match raw.timeout {
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|timeout| !timeout.is_zero())
            .ok_or("`timeout` is no number of seconds above 0")?
            .min(LONGEST_TIMEOUT),
        None => TIMEOUT,
    };
    let kind = raw.kind.as_deref().unwrap_or(match (&raw.command, &raw.url) {
        (None, Some(_)) => "http",
        _ => "stdio",
    });
    let endpoint = match kind {
        "stdio" => stdio(&raw, variables)?,
        "http" | "streamable-http" | "streamableHttp" => Endpoint::Http(remote(&raw, variables)?),
        "sse" => Endpoint::Sse(remote(&raw, variables)?),
        other => return Err(format!("`type` is `{other}`, not `stdio`, `http` or `sse`")),
    };
    Ok(ServerConfig { name: name.to_owned(), endpoint, timeout })
}

fn stdio(raw: &Raw, variables: &Variables) -> Result<Endpoint, String> {
    let command =
        raw.command.as_deref().filter(|it| !it.is_empty()).ok_or("`command` is missing")?;
    let pairs = |(name, value): (&String, &String)| Ok((name.clone(), variables.expand(value)?));
    Ok(Endpoint::Stdio {
        command: variables.expand(command)?.expose().to_owned(),
        args: raw.args.iter().map(|arg| variables.expand(arg)).collect::<Result<_, _>>()?,
        env: raw.env.iter().map(pairs).collect::<Result<_, String>>()?,
        cwd: raw
            .cwd
            .as_deref()
            .map(|cwd| variables.expand(cwd).map(|cwd| PathBuf::from(cwd.expose())))
            .transpose()?,
    })
}

fn remote(raw: &Raw, variables: &Variables) -> Result<Remote, String> {
    let url = variables.expand(raw.url.as_deref().ok_or("`url` is missing")?)?;
    let is_http = reqwest::Url::parse(url.expose())
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_http {
        return Err("`url` is no address of the form http://HOST/…".to_owned());
    }
    let header = |(name, value): (&String, &String)| Ok((name.clone(), variables.expand(value)?));
    let headers = raw.headers.iter().map(header).collect::<Result<_, String>>()?;
    Ok(Remote { url, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            public: [("ROOT", "/data"), ("COPY", "x sk-model-key-1 y")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            secrets: [("OPENAI_API_KEY", "sk-model-key-1"), ("SEARCH_API_KEY", "search-key")]
                .map(|(name, value)| (name.to_owned(), Secret::new(value)))
                .into(),
        }
    }

    fn read(text: &str, allowed: &[&str]) -> Result<Vec<ServerConfig>, ConfigError> {
        let names: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        parse(text, &Variables::allowed(&names, &environment()))
    }

    const SERVERS: &str = r#"{
        "files": {"command": "npx", "args": ["-y", "server", "${ROOT}"], "env": {"KEY": "${SEARCH_API_KEY}"}, "timeout": 5},
        "web": {"type": "http", "url": "https://h/mcp", "headers": {"Authorization": "Bearer ${SEARCH_API_KEY}"}},
        "old": {"type": "sse", "url": "http://h/${PATH_:-sse}"},
        "off": {"command": "x", "disabled": true}}"#;

    #[test]
    fn both_shapes_are_read() {
        let allowed = ["ROOT", "SEARCH_API_KEY"];
        for text in [SERVERS.to_owned(), format!("{{\"mcpServers\": {SERVERS}, \"inputs\": []}}")] {
            let servers = read(&text, &allowed).unwrap();
            let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
            assert_eq!(names, ["files", "web", "old"]);
            let Endpoint::Stdio { args, env, .. } = &servers[0].endpoint else { panic!() };
            assert_eq!((args[2].expose(), env[0].1.expose()), ("/data", "search-key"));
            assert_eq!(servers[0].timeout, Duration::from_secs(5));
            let Endpoint::Http(web) = &servers[1].endpoint else { panic!() };
            assert_eq!(web.headers[0].1.expose(), "Bearer search-key");
            let Endpoint::Sse(old) = &servers[2].endpoint else { panic!() };
            assert_eq!(old.url.expose(), "http://h/sse");
            assert!(!format!("{servers:?}").contains("search-key"));
        }
        let named = r#"{"mcpServers": {"command": "x"}}"#;
        assert_eq!(read(named, &[]).unwrap()[0].name, "mcpServers");
        let bare = read(r#"{"a": {"url": "http://h/mcp"}}"#, &[]).unwrap();
        assert!(matches!(bare[0].endpoint, Endpoint::Http(_)));
    }

    #[test]
    fn what_an_address_holds_beside_host_and_path_is_masked() {
        let url = "https://me:password-1@h/mcp?api_key=key%20number-1&x=1";
        let servers = read(&format!(r#"{{"a": {{"url": "{url}"}}}}"#), &[]).unwrap();
        let redactor = crate::secret::Redactor::new(servers[0].secrets());
        let text = redactor.clean(&format!("{url} key number-1 password-1"));
        assert_eq!(text, "https://me:[redacted]@h/mcp?[redacted] [redacted] [redacted]");
    }

    #[test]
    fn mistakes_are_named_without_values() {
        let told = |text: &str| {
            let error = read(text, &["ROOT", "OPENAI_API_KEY", "COPY", "UNSET"]).unwrap_err();
            crate::error::one_line(&error)
        };
        insta::assert_snapshot!(
            [
                told("{"),
                told("[]"),
                told(r#"{"mcpServers": {}}"#),
                told(r#"{"a": {"args": []}}"#),
                told(r#"{"a": {"command": ["sk-secret"]}}"#),
                told(r#"{"a": {"type": "carrier", "command": "x"}}"#),
                told(r#"{"a": {"type": "http"}}"#),
                told(r#"{"a": {"type": "sse", "url": "h:sk-secret"}}"#),
                told(r#"{"a": {"command": "${SEARCH_API_KEY}"}}"#),
                told(r#"{"a": {"command": "x", "env": {"K": "${OPENAI_API_KEY}"}}}"#),
                told(r#"{"a": {"command": "x", "args": ["${COPY}"]}}"#),
                told(r#"{"a": {"command": "${UNSET}"}}"#),
                told(r#"{"a": {"command": "x", "timeout": 0}}"#),
            ]
            .join("\n"), @r"
        it is not JSON: EOF while parsing an object at line 1 column 1
        it names no server
        it names no server
        server `a`: `command` is missing
        server `a`: invalid type, expected a string
        server `a`: `type` is `carrier`, not `stdio`, `http` or `sse`
        server `a`: `url` is missing
        server `a`: `url` is no address of the form http://HOST/…
        server `a`: `${SEARCH_API_KEY}` is not allowed: name it with --mcp-env
        server `a`: `${OPENAI_API_KEY}` has no value that may be used
        server `a`: `${COPY}` has no value that may be used
        server `a`: `${UNSET}` has no value that may be used
        server `a`: `timeout` is no number of seconds above 0
        ");
    }
}
