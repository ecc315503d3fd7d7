//! Apps: what sandboxes and functions belong to.

use std::{collections::BTreeMap, future::IntoFuture, time::SystemTime};

use futures::future::BoxFuture;
use modal_proto::client as api;

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Problem, Result},
    ids::AppId,
    rpc::methods,
};

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
}

/// An app, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AppInfo {
    /// Its id.
    pub id: AppId,
    /// Its name; ephemeral apps have none.
    pub name: Option<String>,
    /// What its author calls it.
    pub description: String,
    /// What it is doing.
    pub state: AppState,
    /// How many containers it has now.
    pub running_tasks: u32,
    /// When it was made, where the server says it.
    pub created_at: Option<SystemTime>,
    /// When it stopped, if it did.
    pub stopped_at: Option<SystemTime>,
}

/// What an app is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppState {
    /// Being set up.
    Initializing,
    /// Deployed: it stays.
    Deployed,
    /// Running as long as its client does.
    Ephemeral,
    /// Running without its client.
    Detached,
    /// Being stopped.
    Stopping,
    /// Stopped.
    Stopped,
    /// Something this client does not know.
    Unknown,
}

/// A version of an app that was deployed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AppVersion {
    /// Its number, from 1.
    pub version: u32,
    /// The word that its author gave it.
    pub tag: Option<String>,
    /// When it was deployed.
    pub deployed_at: Option<SystemTime>,
    /// Who deployed it.
    pub deployed_by: String,
    /// The version of Modal's client that deployed it.
    pub client_version: String,
    /// The older version that it repeats, if it came by a rollback.
    pub rollback_of: Option<u32>,
    /// Whether one can roll back to it.
    pub can_roll_back_to: bool,
}

/// Looks an app up; see [`Client::app`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct AppLookup {
    client: Client,
    name: String,
    creation: api::ObjectCreationType,
}

/// The apps of an environment; see [`Client::apps`].
#[derive(Debug, Clone)]
pub struct Apps {
    client: Client,
}

impl Client {
    /// Looks up the app of that name: `client.app("goat-sandbox").create_if_missing().await?`. One RPC.
    pub fn app(&self, name: impl Into<String>) -> AppLookup {
        AppLookup {
            client: self.clone(),
            name: name.into(),
            creation: api::ObjectCreationType::Unspecified,
        }
    }

    /// The apps of this client's environment.
    pub fn apps(&self) -> Apps {
        Apps { client: self.clone() }
    }
}

impl AppLookup {
    /// Creates the app if there is none by that name.
    pub fn create_if_missing(mut self) -> Self {
        self.creation = api::ObjectCreationType::CreateIfMissing;
        self
    }

    fn operation(&self) -> Operation {
        Operation::new("look up", self.client.object("app", &self.name))
    }

    async fn send(self) -> Result<App> {
        let query = get_request(&self.name, self.client.environment_name(), self.creation);
        let answer =
            self.client.call(&methods::APP_GET_OR_CREATE, &query, self.operation()).await?;
        let id = AppId::try_from(answer.app_id).map_err(|error| Error::Protocol {
            operation: self.operation(),
            source: error.into(),
        })?;
        Ok(App { id, name: self.name })
    }
}

impl IntoFuture for AppLookup {
    type Output = Result<App>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Apps {
    /// The apps of the environment, those that stopped a while ago left out. One RPC.
    pub async fn list(&self) -> Result<Vec<AppInfo>> {
        let operation = || Operation::new("list", "the apps");
        let query = api::AppListRequest { environment_name: self.client.environment_name() };
        let answer = self.client.call(&methods::APP_LIST, &query, operation()).await?;
        let apps = answer.apps.into_iter().map(AppInfo::try_from);
        apps.collect::<Result<_, _>>()
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })
    }

    /// The deployed app of that name. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none is deployed under that name.
    pub async fn by_name(&self, name: &str) -> Result<App> {
        let id = self.find(name).await?.ok_or_else(|| {
            let operation = Operation::new("look up", self.client.object("app", name));
            let source = Box::new(Problem("no app is deployed under that name".to_owned()));
            Error::NotFound { operation, source }
        })?;
        Ok(App { id, name: name.to_owned() })
    }

    /// The app that is deployed under that name, if one is. One RPC.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<AppId>> {
        let operation = || Operation::new("look up", self.client.object("app", name));
        let query = by_name_request(name, self.client.environment_name());
        let answer =
            self.client.call(&methods::APP_GET_BY_DEPLOYMENT_NAME, &query, operation()).await?;
        let id = Some(answer.app_id).filter(|id| !id.is_empty()).map(AppId::try_from);
        id.transpose()
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })
    }

    /// The versions of an app that were deployed, newest first. One RPC.
    pub async fn history(&self, app: &AppId) -> Result<Vec<AppVersion>> {
        let query = api::AppDeploymentHistoryRequest { app_id: app.to_string() };
        let operation = Operation::new("read the history of", format!("app `{app}`"));
        let answer = self.client.call(&methods::APP_DEPLOYMENT_HISTORY, &query, operation).await?;
        let mut versions: Vec<_> =
            answer.app_deployment_histories.into_iter().map(AppVersion::from).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.version));
        Ok(versions)
    }

    /// Deploys an older version of an app again: that of this number, or without one the version before.
    /// It becomes a new version. One RPC.
    pub async fn rollback(&self, app: &AppId, version: Option<u32>) -> Result<()> {
        let version = version.map_or(-1, |version| i32::try_from(version).unwrap_or(i32::MAX));
        let query = api::AppRollbackRequest { app_id: app.to_string(), version };
        let operation = Operation::new("roll back", format!("app `{app}`"));
        let answer = self.client.call(&methods::APP_ROLLBACK, &query, operation).await?;
        warn(&answer.server_warnings);
        Ok(())
    }

    /// Replaces every container of an app by a new one of the same version. One RPC.
    pub async fn rollover(&self, app: &AppId) -> Result<()> {
        let query = api::AppRolloverRequest { app_id: app.to_string() };
        let operation = Operation::new("roll over", format!("app `{app}`"));
        let answer = self.client.call(&methods::APP_ROLLOVER, &query, operation).await?;
        warn(&answer.server_warnings);
        Ok(())
    }

    /// The tags of an app. One RPC.
    pub async fn tags(&self, app: &AppId) -> Result<BTreeMap<String, String>> {
        let query = api::AppGetTagsRequest { app_id: app.to_string() };
        let operation = Operation::new("read the tags of", format!("app `{app}`"));
        let answer = self.client.call(&methods::APP_GET_TAGS, &query, operation).await?;
        Ok(answer.tags.into_iter().collect())
    }

    /// Replaces the tags of an app. One RPC.
    pub async fn set_tags(
        &self,
        app: &AppId,
        tags: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Result<()> {
        let tags = tags.into_iter().map(|(name, value)| (name.into(), value.into()));
        let query = api::AppSetTagsRequest { app_id: app.to_string(), tags: tags.collect() };
        let operation = Operation::new("set the tags of", format!("app `{app}`"));
        self.client.call(&methods::APP_SET_TAGS, &query, operation).await
    }

    /// Stops an app and every container of it. One RPC.
    pub async fn stop(&self, app: &AppId) -> Result<()> {
        let operation = Operation::new("stop", format!("app `{app}`"));
        self.client.call(&methods::APP_STOP, &stop_request(app), operation).await
    }
}

pub(crate) fn get_request(
    name: &str,
    environment_name: String,
    creation: api::ObjectCreationType,
) -> api::AppGetOrCreateRequest {
    api::AppGetOrCreateRequest {
        app_name: name.to_owned(),
        environment_name,
        object_creation_type: creation.into(),
    }
}

pub(crate) fn by_name_request(
    name: &str,
    environment_name: String,
) -> api::AppGetByDeploymentNameRequest {
    api::AppGetByDeploymentNameRequest { name: name.to_owned(), environment_name }
}

pub(crate) fn stop_request(app: &AppId) -> api::AppStopRequest {
    api::AppStopRequest { app_id: app.to_string(), source: api::AppStopSource::Cli.into() }
}

impl TryFrom<api::app_list_response::AppListItem> for AppInfo {
    type Error = crate::ids::InvalidId;

    fn try_from(item: api::app_list_response::AppListItem) -> Result<Self, Self::Error> {
        let state = item.state();
        Ok(Self {
            id: AppId::try_from(item.app_id)?,
            name: Some(item.name).filter(|name| !name.is_empty()),
            description: item.description,
            state: state.into(),
            running_tasks: item.n_running_tasks.try_into().unwrap_or(0),
            created_at: clock::from_unix(item.created_at),
            stopped_at: clock::from_unix(item.stopped_at),
        })
    }
}

impl From<api::AppDeploymentHistory> for AppVersion {
    fn from(item: api::AppDeploymentHistory) -> Self {
        Self {
            version: item.version,
            tag: Some(item.tag).filter(|tag| !tag.is_empty()),
            deployed_at: clock::from_unix(item.deployed_at),
            deployed_by: item.deployed_by,
            client_version: item.client_version,
            rollback_of: Some(item.rollback_version).filter(|&version| version > 0),
            can_roll_back_to: item.rollback_allowed,
        }
    }
}

fn warn(warnings: &[api::Warning]) {
    for warning in warnings {
        tracing::warn!("{}", warning.message);
    }
}

impl From<api::AppState> for AppState {
    fn from(state: api::AppState) -> Self {
        match state {
            api::AppState::Initializing => Self::Initializing,
            api::AppState::Deployed => Self::Deployed,
            api::AppState::Ephemeral => Self::Ephemeral,
            api::AppState::Detached | api::AppState::DetachedDisconnected => Self::Detached,
            api::AppState::Stopping => Self::Stopping,
            api::AppState::Stopped => Self::Stopped,
            _ => Self::Unknown,
        }
    }
}
