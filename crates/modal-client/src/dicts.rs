//! Dicts: small key-value stores that apps and clients share.

use std::{future::IntoFuture, ops::Deref, time::SystemTime};

use futures::{
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    heartbeat::{self, Heartbeat},
    ids::DictId,
    page, pickle,
    rpc::{methods, status},
};

/// A dict. Keys are texts; values are anything that serde can write, kept as pickles, so that Python programs
/// read them and the other way round. Clones are the same dict.
#[derive(Debug, Clone)]
pub struct Dict {
    client: Client,
    id: DictId,
    name: String,
}

/// A dict, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DictInfo {
    /// Its id.
    pub id: DictId,
    /// Its name.
    pub name: String,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
}

/// Looks a dict up; see [`Client::dict`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct DictLookup {
    client: Client,
    name: String,
    creation: api::ObjectCreationType,
}

/// The dicts of an environment; see [`Client::dicts`].
#[derive(Debug, Clone)]
pub struct Dicts {
    client: Client,
}

/// A dict without a name that the server deletes a while after this is dropped. Used as a [`Dict`].
#[derive(Debug)]
pub struct EphemeralDict {
    dict: Dict,
    _heartbeat: Heartbeat,
}

impl Deref for EphemeralDict {
    type Target = Dict;

    fn deref(&self) -> &Dict {
        &self.dict
    }
}

impl Client {
    /// Looks up the dict of that name: `client.dict("leases").create_if_missing().await?`. One RPC.
    pub fn dict(&self, name: impl Into<String>) -> DictLookup {
        DictLookup {
            client: self.clone(),
            name: name.into(),
            creation: api::ObjectCreationType::Unspecified,
        }
    }

    /// The dicts of this client's environment.
    pub fn dicts(&self) -> Dicts {
        Dicts { client: self.clone() }
    }

    /// A dict without a name, for as long as it is held. One RPC, and a heartbeat every five minutes.
    pub async fn ephemeral_dict(&self) -> Result<EphemeralDict> {
        let query = get_request("", self.environment_name(), api::ObjectCreationType::Ephemeral);
        let operation = || Operation::new("create", "an ephemeral dict");
        let answer = self.call(&methods::DICT_GET_OR_CREATE, &query, operation()).await?;
        let dict = dict_of(self, answer, String::new(), operation)?;
        let (client, id) = (self.clone(), dict.id.clone());
        let heartbeat = Heartbeat::start(heartbeat::EPHEMERAL, "an ephemeral dict", move || {
            let (client, id) = (client.clone(), id.clone());
            async move {
                let beat = api::DictHeartbeatRequest { dict_id: id.to_string() };
                let operation = Operation::new("keep", format!("dict `{id}`"));
                client.call(&methods::DICT_HEARTBEAT, &beat, operation).await
            }
        });
        Ok(EphemeralDict { dict, _heartbeat: heartbeat })
    }
}

impl DictLookup {
    /// Creates the dict if there is none by that name.
    pub fn create_if_missing(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateIfMissing;
        self
    }

    /// Creates the dict, and fails with [`Error::AlreadyExists`] if there is one.
    pub fn create(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateFailIfExists;
        self
    }

    async fn send(self) -> Result<Dict> {
        let operation = || Operation::new("look up", self.client.object("dict", &self.name));
        let query = get_request(&self.name, self.client.environment_name(), self.creation);
        let answer = self.client.call(&methods::DICT_GET_OR_CREATE, &query, operation()).await?;
        dict_of(&self.client, answer, self.name.clone(), operation)
    }
}

impl IntoFuture for DictLookup {
    type Output = Result<Dict>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn dict_of(
    client: &Client,
    answer: api::DictGetOrCreateResponse,
    name: String,
    operation: impl Fn() -> Operation,
) -> Result<Dict> {
    let id = DictId::try_from(answer.dict_id)
        .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
    Ok(Dict { client: client.clone(), id, name })
}

fn get_request(
    name: &str,
    environment_name: String,
    creation: api::ObjectCreationType,
) -> api::DictGetOrCreateRequest {
    api::DictGetOrCreateRequest {
        deployment_name: name.to_owned(),
        environment_name,
        object_creation_type: creation.into(),
        ..Default::default()
    }
}

impl Dicts {
    /// All dicts, newest first. One RPC for every hundred.
    pub async fn list(&self) -> Result<Vec<DictInfo>> {
        page::collect(async |pagination| {
            let query = api::DictListRequest {
                environment_name: self.client.environment_name(),
                pagination: Some(pagination),
            };
            let operation = || Operation::new("list", "the dicts");
            let answer = self.client.call(&methods::DICT_LIST, &query, operation()).await?;
            answer.dicts.into_iter().map(|item| page_item(item, operation)).collect()
        })
        .await
    }

    /// Deletes a dict and everything in it. One RPC.
    pub async fn delete(&self, dict: &DictId) -> Result<()> {
        let operation = Operation::new("delete", format!("dict `{dict}`"));
        let query = api::DictDeleteRequest { dict_id: dict.to_string() };
        self.client.call(&methods::DICT_DELETE, &query, operation).await
    }
}

fn page_item(
    item: api::dict_list_response::DictInfo,
    operation: impl Fn() -> Operation,
) -> Result<page::Item<DictInfo>> {
    let info = item.metadata.and_then(|metadata| metadata.creation_info);
    let created_at = info.map_or(item.created_at, |info| info.created_at);
    let value = DictInfo {
        id: DictId::try_from(item.dict_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?,
        name: item.name,
        created_at: clock::from_unix(created_at),
    };
    Ok(page::Item { created_at, value })
}

impl Dict {
    /// Its id.
    pub fn id(&self) -> &DictId {
        &self.id
    }

    /// Its name; empty for an ephemeral one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of a key, if there is one. One RPC.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the value is of another type, or an object of Python's that is no plain value.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let operation = || self.operation("read", key);
        let query = api::DictGetRequest { dict_id: self.id.to_string(), key: self.key(key)? };
        let answer = self.client.call(&methods::DICT_GET, &query, operation()).await?;
        value_of(answer.found, answer.value, operation)
    }

    /// Whether there is such a key. One RPC.
    pub async fn contains(&self, key: &str) -> Result<bool> {
        let query = api::DictContainsRequest { dict_id: self.id.to_string(), key: self.key(key)? };
        let operation = self.operation("look for", key);
        Ok(self.client.call(&methods::DICT_CONTAINS, &query, operation).await?.found)
    }

    /// Sets the value of a key. One RPC.
    pub async fn put(&self, key: &str, value: &impl Serialize) -> Result<()> {
        self.put_with(key, value, false).await.map(drop)
    }

    /// Sets the value of a key that is not there, and says whether it did: of several who try at once, one succeeds.
    /// One RPC.
    pub async fn put_if_absent(&self, key: &str, value: &impl Serialize) -> Result<bool> {
        self.put_with(key, value, true).await
    }

    async fn put_with(
        &self,
        key: &str,
        value: &impl Serialize,
        if_not_exists: bool,
    ) -> Result<bool> {
        let operation = self.operation("set", key);
        let query = api::DictUpdateRequest {
            dict_id: self.id.to_string(),
            updates: vec![self.entry(key, value)?],
            if_not_exists,
        };
        Ok(self.client.call(&methods::DICT_UPDATE, &query, operation).await?.created)
    }

    /// Sets the values of many keys. One RPC.
    pub async fn update<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let entries = entries.into_iter().map(|(key, value)| self.entry(key.as_ref(), &value));
        let query = api::DictUpdateRequest {
            dict_id: self.id.to_string(),
            updates: entries.collect::<Result<_>>()?,
            if_not_exists: false,
        };
        let operation = Operation::new("update", self.object());
        self.client.call(&methods::DICT_UPDATE, &query, operation).await.map(drop)
    }

    /// Takes the value of a key out, if there is one. One RPC.
    ///
    /// # Errors
    /// As for [`get`](Self::get); the value is gone then too.
    pub async fn pop<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let operation = || self.operation("take", key);
        let query = api::DictPopRequest { dict_id: self.id.to_string(), key: self.key(key)? };
        let answer = self.client.call(&methods::DICT_POP, &query, operation()).await?;
        value_of(answer.found, answer.value, operation)
    }

    /// How many keys it has; the server counts to 100,000. One RPC.
    pub async fn len(&self) -> Result<usize> {
        let query = api::DictLenRequest { dict_id: self.id.to_string() };
        let operation = Operation::new("count", self.object());
        let answer = self.client.call(&methods::DICT_LEN, &query, operation).await?;
        Ok(usize::try_from(answer.len).unwrap_or(0))
    }

    /// Whether it has no key. One RPC.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Removes every key. One RPC.
    pub async fn clear(&self) -> Result<()> {
        let query = api::DictClearRequest { dict_id: self.id.to_string() };
        let operation = Operation::new("clear", self.object());
        self.client.call(&methods::DICT_CLEAR, &query, operation).await
    }

    /// Its keys, in no order; those that are no texts are left out. One RPC.
    pub fn keys(&self) -> BoxStream<'static, Result<String>> {
        let keys = self.contents(true, false);
        keys.try_filter_map(|entry| async move { Ok(pickle::text_of_key(&entry.key)) }).boxed()
    }

    /// Its keys and values, in no order; keys that are no texts are left out. One RPC.
    pub fn items<T: DeserializeOwned + Send + 'static>(
        &self,
    ) -> BoxStream<'static, Result<(String, T)>> {
        let dict = self.clone();
        let items = self.contents(true, true).try_filter_map(move |entry| {
            let item = pickle::text_of_key(&entry.key).map(|key| {
                let value = pickle::decode(&entry.value);
                let operation = || dict.operation("read", &key);
                let value = value.map_err(|problem| Error::protocol(operation(), problem))?;
                Ok((key, value))
            });
            async move { item.transpose() }
        });
        items.boxed()
    }

    fn contents(&self, keys: bool, values: bool) -> BoxStream<'static, Result<api::DictEntry>> {
        let (client, object) = (self.client.clone(), self.object());
        let query = api::DictContentsRequest { dict_id: self.id.to_string(), keys, values };
        let opened = async move {
            let method = &methods::DICT_CONTENTS;
            let error = move |status: tonic::Status| {
                let operation = Operation::new("read", object.clone());
                status::into_error(operation, method.name, &status, 1, None)
            };
            let wire = &client.shared.wire;
            let entries = wire.stream(method, query, client.metadata(), None).await;
            let entries = entries.map_err(&error)?;
            Ok::<_, Error>(entries.map_err(error))
        };
        futures::stream::once(opened).try_flatten().boxed()
    }

    /// Deletes the dict and everything in it. One RPC.
    pub async fn delete(self) -> Result<()> {
        self.client.dicts().delete(&self.id).await
    }

    fn key(&self, key: &str) -> Result<Vec<u8>> {
        pickle::key(key).map_err(|problem| Error::invalid(self.operation("use", key), problem))
    }

    fn entry(&self, key: &str, value: &impl Serialize) -> Result<api::DictEntry> {
        let invalid = |problem| Error::invalid(self.operation("set", key), problem);
        Ok(api::DictEntry { key: self.key(key)?, value: pickle::encode(value).map_err(invalid)? })
    }

    fn object(&self) -> String {
        if self.name.is_empty() {
            format!("dict `{}`", self.id)
        } else {
            self.client.object("dict", &self.name)
        }
    }

    fn operation(&self, verb: &'static str, key: &str) -> Operation {
        Operation::new(verb, format!("key `{key}` of {}", self.object()))
    }
}

fn value_of<T: DeserializeOwned>(
    found: bool,
    value: Option<Vec<u8>>,
    operation: impl Fn() -> Operation,
) -> Result<Option<T>> {
    let value = value.filter(|_| found).map(|pickle| pickle::decode(&pickle));
    value.transpose().map_err(|problem| Error::protocol(operation(), problem))
}
