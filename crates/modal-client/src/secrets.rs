//! Secrets: named sets of environment variables, kept by the server; and sets that are sent inline.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::SystemTime,
};

use modal_proto::client as api;
use secret_string::SecretString;

use crate::{
    client::Client,
    clock,
    config::Environ,
    error::{Error, Operation, Result},
    ids::{AppId, SecretId},
    page,
    rpc::methods,
};

/// Environment variables for a sandbox or a build: either kept by the server under an id, or sent along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret(pub(crate) Source);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Stored { id: SecretId, name: String, keys: Vec<String> },
    Inline(BTreeMap<String, SecretString>),
}

/// A secret, as a listing shows it: names of variables, never values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SecretInfo {
    /// Its id.
    pub id: SecretId,
    /// Its name.
    pub name: String,
    /// The names of its variables, where the server says them.
    pub keys: Vec<String>,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
    /// When it was last used, if it was.
    pub last_used_at: Option<SystemTime>,
}

/// What to do where a secret of that name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Fail with [`Error::AlreadyExists`].
    Fail,
    /// Leave it as it is.
    Keep,
    /// Replace its variables.
    Overwrite,
}

/// The secrets of an environment; see [`Client::secrets`].
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
}

impl Secret {
    /// Variables that are sent with each request that uses them, and kept by nobody.
    pub fn from_map<K: Into<String>, V: Into<SecretString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self(Source::Inline(
            variables.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        ))
    }

    /// The variables of a dotenv file, given as its text: `NAME=value` lines, comments, quotes, `export`.
    ///
    /// `$NAME` and `${NAME}` stand for a variable of the process's environment or an earlier line, as in
    /// most such files; single quotes keep a value as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a line that is not understood. The error does not quote it.
    pub fn from_dotenv(text: &str) -> Result<Self> {
        let operation = Operation::new("read", "variables in dotenv form");
        dotenv(text).map(Self::from_map).map_err(|problem| Error::invalid(operation, problem))
    }

    /// As [`from_dotenv`](Self::from_dotenv), of a file: `Secret::from_dotenv_file(".env")?`.
    ///
    /// # Errors
    /// Also [`Error::File`] if it cannot be read.
    pub fn from_dotenv_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let operation = || Operation::new("read", format!("`{}`", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::file(operation(), path, source))?;
        dotenv(&text).map(Self::from_map).map_err(|problem| Error::invalid(operation(), problem))
    }

    /// These variables of an environment that the caller hands over, usually
    /// [`Environ::of_process`](crate::Environ::of_process).
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the variables that are not set.
    pub fn from_environ(
        environ: &Environ,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self> {
        let (mut variables, mut missing) = (BTreeMap::new(), Vec::new());
        for name in names {
            let name = name.as_ref();
            match environ.get(name) {
                Some(value) => drop(variables.insert(name.to_owned(), value.into())),
                None => missing.push(format!("`{name}`")),
            }
        }
        if missing.is_empty() {
            return Ok(Self(Source::Inline(variables)));
        }
        let operation = Operation::new("take", "variables of the environment");
        Err(Error::invalid(operation, format!("not set: {}", missing.join(", "))))
    }

    /// The id, if the server keeps it.
    pub fn id(&self) -> Option<&SecretId> {
        match &self.0 {
            Source::Stored { id, .. } => Some(id),
            Source::Inline(_) => None,
        }
    }

    /// The name, if the server keeps it.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Source::Stored { name, .. } => Some(name),
            Source::Inline(_) => None,
        }
    }

    /// The names of its variables, as far as they are known.
    pub fn keys(&self) -> Vec<&str> {
        match &self.0 {
            Source::Stored { keys, .. } => keys.iter().map(String::as_str).collect(),
            Source::Inline(variables) => variables.keys().map(String::as_str).collect(),
        }
    }

    /// How requests for sandboxes name it.
    pub(crate) fn to_source(&self) -> api::SecretSource {
        let source = match &self.0 {
            Source::Stored { id, .. } => api::secret_source::Source::SecretId(id.to_string()),
            Source::Inline(variables) => api::secret_source::Source::Env(string_map(variables)),
        };
        api::SecretSource { source: Some(source) }
    }
}

fn dotenv(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut variables: Vec<(String, String)> = Vec::new();
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        match line {
            Ok(variable) => variables.push(variable),
            // The parser's own error would quote the line, value and all.
            Err(_) => {
                return Err(match variables.last() {
                    Some((name, _)) => format!("the line after `{name}` is not `NAME=value`"),
                    None => "the first line is not `NAME=value`".to_owned(),
                });
            }
        }
    }
    Ok(variables)
}

pub(crate) fn string_map(variables: &BTreeMap<String, SecretString>) -> api::StringMap {
    api::StringMap { contents: exposed(variables) }
}

fn exposed(variables: &BTreeMap<String, SecretString>) -> HashMap<String, String> {
    variables.iter().map(|(key, value)| (key.clone(), value.expose().to_owned())).collect()
}

impl Client {
    /// The secrets of this client's environment.
    pub fn secrets(&self) -> Secrets {
        Secrets { client: self.clone() }
    }
}

impl Secrets {
    /// Looks a secret up. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none by that name.
    pub async fn get(&self, name: &str) -> Result<Secret> {
        self.get_with_keys(name, &[]).await
    }

    /// Looks a secret up that must have these variables. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none by that name, [`Error::Conflict`] if a variable is missing.
    pub async fn get_with_keys(&self, name: &str, keys: &[&str]) -> Result<Secret> {
        let mut query = self.request(name, api::ObjectCreationType::Unspecified);
        query.required_keys = keys.iter().map(|&key| key.to_owned()).collect();
        self.resolve("look up", name, query).await
    }

    /// Creates a secret of that name with these variables. One RPC.
    pub async fn create(
        &self,
        name: &str,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<SecretString>)>,
        if_exists: IfExists,
    ) -> Result<Secret> {
        let Secret(Source::Inline(variables)) = Secret::from_map(variables) else {
            unreachable!("from_map is inline")
        };
        let mut query = self.request(name, creation_type(if_exists));
        query.env_dict = exposed(&variables);
        self.resolve("create", name, query).await
    }

    /// Looks a secret up and creates it with these variables if there is none by that name; an existing
    /// one stays as it is. One RPC.
    pub async fn get_or_create(
        &self,
        name: &str,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<SecretString>)>,
    ) -> Result<Secret> {
        self.create(name, variables, IfExists::Keep).await
    }

    /// Sets variables of an existing secret and leaves its others alone; `None` removes one. One RPC.
    pub async fn update(
        &self,
        secret: &SecretId,
        variables: impl IntoIterator<Item = (impl Into<String>, Option<SecretString>)>,
    ) -> Result<()> {
        let updates =
            variables.into_iter().map(|(key, value)| api::secret_update_request::Update {
                key: key.into(),
                value: value.map(|value| value.expose().to_owned()),
            });
        let query =
            api::SecretUpdateRequest { secret_id: secret.to_string(), updates: updates.collect() };
        let operation = Operation::new("update", format!("secret `{secret}`"));
        self.client.call(&methods::SECRET_UPDATE, &query, operation).await
    }

    /// All secrets, newest first. One RPC for every hundred.
    pub async fn list(&self) -> Result<Vec<SecretInfo>> {
        page::collect(async |pagination| {
            let query = api::SecretListRequest {
                environment_name: self.client.environment_name(),
                pagination: Some(pagination),
            };
            let operation = || Operation::new("list", "the secrets");
            let answer = self.client.call(&methods::SECRET_LIST, &query, operation()).await?;
            answer.items.into_iter().map(|item| page_item(item, operation)).collect()
        })
        .await
    }

    /// What the server tells of a secret: the names of its variables, never values. Two RPCs.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none by that name.
    pub async fn info(&self, name: &str) -> Result<SecretInfo> {
        let secret = self.get(name).await?;
        let operation = || Operation::new("look at", self.client.object("secret", name));
        let Source::Stored { id, .. } = secret.0 else {
            return Err(Error::protocol(operation(), "the secret has no id"));
        };
        let query = api::SecretGetInfoRequest { secret_id: id.to_string() };
        let answer = self.client.call(&methods::SECRET_GET_INFO, &query, operation()).await?;
        let metadata = answer.metadata.unwrap_or_default();
        Ok(SecretInfo {
            id,
            name: name.to_owned(),
            keys: metadata.keys,
            created_at: metadata.creation_info.and_then(|info| clock::from_unix(info.created_at)),
            last_used_at: clock::from_unix(metadata.last_used_at),
        })
    }

    /// Deletes a secret. One RPC.
    pub async fn delete(&self, secret: &SecretId) -> Result<()> {
        let operation = Operation::new("delete", format!("secret `{secret}`"));
        let query = api::SecretDeleteRequest { secret_id: secret.to_string() };
        self.client.call(&methods::SECRET_DELETE, &query, operation).await
    }

    /// The id under which a build or a registry login can use `secret`; one that is sent inline becomes an
    /// anonymous secret of the app. No RPC for a stored one.
    pub(crate) async fn id_for_app(&self, secret: &Secret, app: &AppId) -> Result<SecretId> {
        match &secret.0 {
            Source::Stored { id, .. } => Ok(id.clone()),
            Source::Inline(variables) => {
                let environment = self.client.environment_name();
                let query = anonymous_request(variables, app, environment);
                let stored = self.resolve("create", "(anonymous)", query).await?;
                stored.id().cloned().ok_or_else(|| {
                    Error::protocol(Operation::new("create", "an anonymous secret"), "it has no id")
                })
            }
        }
    }

    fn request(
        &self,
        name: &str,
        creation: api::ObjectCreationType,
    ) -> api::SecretGetOrCreateRequest {
        named_request(name, self.client.environment_name(), creation)
    }

    async fn resolve(
        &self,
        verb: &'static str,
        name: &str,
        query: api::SecretGetOrCreateRequest,
    ) -> Result<Secret> {
        let operation = || Operation::new(verb, self.client.object("secret", name));
        let answer = self.client.call(&methods::SECRET_GET_OR_CREATE, &query, operation()).await?;
        let id = SecretId::try_from(answer.secret_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        let keys = answer.metadata.unwrap_or_default().keys;
        Ok(Secret(Source::Stored { id, name: name.to_owned(), keys }))
    }
}

pub(crate) fn named_request(
    name: &str,
    environment_name: String,
    creation: api::ObjectCreationType,
) -> api::SecretGetOrCreateRequest {
    api::SecretGetOrCreateRequest {
        deployment_name: name.to_owned(),
        environment_name,
        object_creation_type: creation.into(),
        ..Default::default()
    }
}

pub(crate) fn anonymous_request(
    variables: &BTreeMap<String, SecretString>,
    app: &AppId,
    environment_name: String,
) -> api::SecretGetOrCreateRequest {
    api::SecretGetOrCreateRequest {
        environment_name,
        object_creation_type: api::ObjectCreationType::AnonymousOwnedByApp.into(),
        env_dict: exposed(variables),
        app_id: app.to_string(),
        ..Default::default()
    }
}

fn creation_type(if_exists: IfExists) -> api::ObjectCreationType {
    match if_exists {
        IfExists::Fail => api::ObjectCreationType::CreateFailIfExists,
        IfExists::Keep => api::ObjectCreationType::CreateIfMissing,
        IfExists::Overwrite => api::ObjectCreationType::CreateOverwriteIfExists,
    }
}

fn page_item(
    item: api::SecretListItem,
    operation: impl Fn() -> Operation,
) -> Result<page::Item<SecretInfo>> {
    let metadata = item.metadata.unwrap_or_default();
    let created_at = metadata.creation_info.map_or(item.created_at, |info| info.created_at);
    let info = SecretInfo {
        id: SecretId::try_from(item.secret_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?,
        name: item.label,
        keys: metadata.keys,
        created_at: clock::from_unix(created_at),
        last_used_at: clock::from_unix(item.last_used_at),
    };
    Ok(page::Item { created_at, value: info })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_secret_prints_names_and_no_values() {
        let secret = Secret::from_map([("KEY", "planted")]);
        assert_eq!(format!("{secret:?}"), r#"Secret(Inline({"KEY": ****}))"#);
        assert_eq!(secret.keys(), ["KEY"]);
    }

    fn values(secret: Secret) -> Vec<(String, String)> {
        let Source::Inline(variables) = secret.0 else { panic!("stored") };
        variables.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect()
    }

    #[test]
    fn dotenv_text_is_read_with_quotes_comments_and_earlier_lines() {
        let text = "# c\nexport A=1\nB='$A b' # why\nC=\"x\\ny\"\n\nD=${A}2\n";
        let pairs = [("A", "1"), ("B", "$A b"), ("C", "x\ny"), ("D", "12")];
        let pairs: Vec<_> = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(values(Secret::from_dotenv(text).unwrap()), pairs);
    }

    #[test]
    fn a_bad_line_is_placed_and_not_quoted() {
        let error = Secret::from_dotenv("A=1\n=planted\n").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the line after `A` is not `NAME=value`");
        assert!(!format!("{error:?}").contains("planted"));
    }

    #[test]
    fn variables_of_an_environment_must_be_there() {
        let environ = Environ::from_pairs([("A", "1"), ("B", "2")]);
        let secret = Secret::from_environ(&environ, ["A"]).unwrap();
        assert_eq!(values(secret), [("A".to_owned(), "1".to_owned())]);
        let error = Secret::from_environ(&environ, ["A", "X", "Y"]).unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "not set: `X`, `Y`");
    }
}
