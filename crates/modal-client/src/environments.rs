//! Environments: the namespaces of a workspace.

use std::time::SystemTime;

use modal_proto::client as api;

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::EnvironmentId,
    rpc::methods,
};

/// The environments of a workspace; see [`Client::environments`].
#[derive(Debug, Clone)]
pub struct Environments {
    client: Client,
}

/// An environment, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EnvironmentInfo {
    /// Its name.
    pub name: String,
    /// Its id, where the server says it.
    pub id: Option<EnvironmentId>,
    /// The suffix of its apps' web addresses.
    pub web_suffix: String,
    /// Whether calls that name no environment mean this one.
    pub is_default: bool,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
}

/// An environment that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its name.
    pub name: String,
    /// The version of Modal's image builder that it uses.
    pub image_builder_version: String,
}

impl Client {
    /// The environments of the workspace.
    pub fn environments(&self) -> Environments {
        Environments { client: self.clone() }
    }
}

impl Environments {
    /// All environments. One RPC.
    pub async fn list(&self) -> Result<Vec<EnvironmentInfo>> {
        let operation = Operation::new("list", "the environments");
        let answer = self.client.call(&methods::ENVIRONMENT_LIST, &(), operation).await?;
        Ok(answer.items.into_iter().map(EnvironmentInfo::from).collect())
    }

    /// Creates an environment. One RPC.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if there is one by that name.
    pub async fn create(&self, name: &str) -> Result<()> {
        let operation = Operation::new("create", format!("environment `{name}`"));
        self.client.call(&methods::ENVIRONMENT_CREATE, &create_request(name), operation).await
    }

    /// Deletes an environment and everything in it. One RPC.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let operation = Operation::new("delete", format!("environment `{name}`"));
        let query = api::EnvironmentDeleteRequest { name: name.to_owned() };
        self.client.call(&methods::ENVIRONMENT_DELETE, &query, operation).await
    }

    /// Looks an environment up; the empty name is the default one. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none by that name.
    pub async fn get(&self, name: &str) -> Result<Environment> {
        self.resolve(name, api::ObjectCreationType::Unspecified).await
    }

    /// Looks an environment up, and creates it if there is none by that name. One RPC.
    pub async fn get_or_create(&self, name: &str) -> Result<Environment> {
        self.resolve(name, api::ObjectCreationType::CreateIfMissing).await
    }

    async fn resolve(&self, name: &str, creation: api::ObjectCreationType) -> Result<Environment> {
        let operation = || Operation::new("look up", format!("environment `{name}`"));
        let query = get_request(name, creation);
        let answer =
            self.client.call(&methods::ENVIRONMENT_GET_OR_CREATE, &query, operation()).await?;
        let id = EnvironmentId::try_from(answer.environment_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        let metadata = answer.metadata.unwrap_or_default();
        let settings = metadata.settings.unwrap_or_default();
        Ok(Environment {
            id,
            name: metadata.name,
            image_builder_version: settings.image_builder_version,
        })
    }
}

pub(crate) fn create_request(name: &str) -> api::EnvironmentCreateRequest {
    api::EnvironmentCreateRequest { name: name.to_owned(), ..Default::default() }
}

pub(crate) fn get_request(
    name: &str,
    creation: api::ObjectCreationType,
) -> api::EnvironmentGetOrCreateRequest {
    api::EnvironmentGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: creation.into(),
    }
}

impl From<api::EnvironmentListItem> for EnvironmentInfo {
    fn from(item: api::EnvironmentListItem) -> Self {
        Self {
            name: item.name,
            id: EnvironmentId::try_from(item.environment_id).ok(),
            web_suffix: item.webhook_suffix,
            is_default: item.default,
            created_at: clock::from_unix(item.created_at),
        }
    }
}
