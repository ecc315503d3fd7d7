//! Finding sandboxes that exist: by id, by name, by app and tags.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    time::{Duration, SystemTime},
};

use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;

use super::{ExitReason, Sandbox, SandboxVersion, exit_of, tag, wait_request};
use crate::{
    apps::App,
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::{AppId, ImageId, SandboxId, TaskId},
    router::Router,
    rpc::methods,
};

/// The sandboxes of an environment; see [`Client::sandboxes`].
#[derive(Debug, Clone)]
pub struct Sandboxes {
    client: Client,
}

/// A sandbox, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SandboxInfo {
    /// Its id.
    pub id: SandboxId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The app it belongs to.
    pub app: Option<AppId>,
    /// Its image.
    pub image: Option<ImageId>,
    /// The task that runs it.
    pub task: Option<TaskId>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// When its command started.
    pub started_at: Option<SystemTime>,
    /// How long it may run.
    pub timeout: Duration,
    /// Why it ended, if it did.
    pub ended: Option<ExitReason>,
}

/// Lists sandboxes, newest first; see [`Sandboxes::list`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited or streamed"]
pub struct ListSandboxes {
    client: Client,
    app: Option<AppId>,
    tags: Vec<(String, String)>,
}

impl Client {
    /// The sandboxes of this client's environment.
    pub fn sandboxes(&self) -> Sandboxes {
        Sandboxes { client: self.clone() }
    }
}

impl Sandboxes {
    /// The running sandboxes: awaited it is a `Vec`, or see [`ListSandboxes::stream`].
    pub fn list(&self) -> ListSandboxes {
        ListSandboxes { client: self.client.clone(), app: None, tags: Vec::new() }
    }

    /// The sandbox with that id, whether it runs or has ended. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn from_id(&self, id: &SandboxId) -> Result<Sandbox> {
        let operation = Operation::new("look up", format!("sandbox `{id}`"));
        let query = wait_request(id, Duration::ZERO);
        let method =
            SandboxVersion::of(id).choose(&methods::SANDBOX_WAIT, &methods::SANDBOX_WAIT_V2);
        let answer = self.client.call(method, &query, operation).await?;
        let app = answer.metadata.and_then(|metadata| AppId::try_from(metadata.app_id).ok());
        Ok(self.sandbox(id.clone(), app))
    }

    /// The running sandbox of an app with that name: of version 2 or, where there is none, of version 1. One RPC, or
    /// two.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn from_name(&self, app: &str, name: &str) -> Result<Sandbox> {
        let operation =
            || Operation::new("look up", self.client.object("sandbox", &format!("{app}/{name}")));
        let query = from_name_request(app, name, self.client.environment_name());
        let found = self.client.call(&methods::SANDBOX_GET_FROM_NAME_V2, &query, operation()).await;
        let answer = match found {
            // It may be of version 1.
            Err(Error::NotFound { .. }) => {
                self.client.call(&methods::SANDBOX_GET_FROM_NAME, &query, operation()).await?
            }
            found => found?,
        };
        let id = SandboxId::try_from(answer.sandbox_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        let app = answer.metadata.and_then(|metadata| AppId::try_from(metadata.app_id).ok());
        Ok(self.sandbox(id, app))
    }

    fn sandbox(&self, id: SandboxId, app: Option<AppId>) -> Sandbox {
        let router = Router::new(self.client.clone(), id.clone(), None, None);
        Sandbox::new(self.client.clone(), id, app, router, Vec::new())
    }
}

impl ListSandboxes {
    /// Only those of this app.
    pub fn app(mut self, app: &App) -> Self {
        self.app = Some(app.id.clone());
        self
    }

    /// Only those with this tag, and with every other tag that is asked for.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// The sandboxes, page by page as they are read.
    pub fn stream(self) -> BoxStream<'static, Result<SandboxInfo>> {
        let pages = stream::try_unfold(Some(0.0), move |before| {
            let list = self.clone();
            async move {
                let Some(before) = before else { return Ok(None) };
                let page = list.page(before).await?;
                let oldest = page.last().map(|info| info.created_at);
                // Strictly older each time, or a server that repeats itself would keep us for ever.
                let next = oldest.filter(|&oldest| before == 0.0 || oldest < before);
                Ok::<_, Error>(if page.is_empty() { None } else { Some((page, next)) })
            }
        });
        let infos = pages.map_ok(|page| stream::iter(page.into_iter().map(SandboxInfo::try_from)));
        infos.try_flatten().boxed()
    }

    async fn page(&self, before: f64) -> Result<Vec<api::SandboxInfo>> {
        let query =
            list_request(self.app.as_ref(), self.client.environment_name(), before, &self.tags);
        let operation = Operation::new("list", "the sandboxes");
        Ok(self.client.call(&methods::SANDBOX_LIST_V2, &query, operation).await?.sandboxes)
    }
}

impl IntoFuture for ListSandboxes {
    type Output = Result<Vec<SandboxInfo>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.stream().try_collect())
    }
}

pub(crate) fn list_request(
    app: Option<&AppId>,
    environment_name: String,
    before: f64,
    tags: &[(String, String)],
) -> api::SandboxListRequest {
    api::SandboxListRequest {
        app_id: app.map(ToString::to_string).unwrap_or_default(),
        before_timestamp: before,
        environment_name,
        include_finished: false,
        tags: tags.iter().map(|(name, value)| tag(name.clone(), value.clone())).collect(),
    }
}

fn from_name_request(
    app: &str,
    name: &str,
    environment_name: String,
) -> api::SandboxGetFromNameRequest {
    api::SandboxGetFromNameRequest {
        sandbox_name: name.to_owned(),
        environment_name,
        app_name: app.to_owned(),
        include_terminated: false,
    }
}

impl TryFrom<api::SandboxInfo> for SandboxInfo {
    type Error = Error;

    fn try_from(info: api::SandboxInfo) -> Result<Self> {
        let id = SandboxId::try_from(info.id).map_err(|error| Error::Protocol {
            operation: Operation::new("list", "the sandboxes"),
            source: error.into(),
        })?;
        let task = info.task_info.unwrap_or_default();
        Ok(Self {
            id,
            name: Some(info.name).filter(|name| !name.is_empty()),
            app: AppId::try_from(info.app_id).ok(),
            image: ImageId::try_from(info.image_id).ok(),
            task: TaskId::try_from(task.id).ok(),
            tags: info.tags.into_iter().map(|tag| (tag.tag_name, tag.tag_value)).collect(),
            created_at: clock::from_unix(info.created_at),
            started_at: clock::from_unix(task.started_at),
            timeout: Duration::from_secs(info.timeout_secs.into()),
            ended: task.result.and_then(exit_of).map(|exit| exit.reason),
        })
    }
}
