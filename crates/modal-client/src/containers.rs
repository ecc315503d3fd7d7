//! The containers that run functions and sandboxes of version 1.

use std::time::{Duration, SystemTime};

use futures::{
    future::BoxFuture,
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;

use crate::{
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::{AppId, TaskId},
    rpc::methods,
};

/// How long containers that are stopped may take to be gone.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// The pause before it is looked again.
const STOP_POLL: Duration = Duration::from_millis(500);
const PARALLEL_STOPS: usize = 32;

/// The containers of an environment; see [`Client::containers`].
#[derive(Debug, Clone)]
pub struct Containers {
    client: Client,
}

/// A container, as a listing shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ContainerInfo {
    /// Its id.
    pub id: TaskId,
    /// The app it belongs to.
    pub app: Option<AppId>,
    /// The app's name, or what its author calls it.
    pub app_description: String,
    /// When it was asked for.
    pub enqueued_at: Option<SystemTime>,
    /// When it started; `None` while it is being started.
    pub started_at: Option<SystemTime>,
}

impl Client {
    /// The containers of this client's environment.
    pub fn containers(&self) -> Containers {
        Containers { client: self.clone() }
    }
}

impl Containers {
    /// The containers that run now, of one app or of all. One RPC.
    pub async fn list(&self, app: Option<&AppId>) -> Result<Vec<ContainerInfo>> {
        let operation = || Operation::new("list", "the containers");
        let tasks = self.tasks(app).await?.into_iter().map(ContainerInfo::try_from);
        tasks
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })
    }

    /// Stops a container; its inputs are given to others. One RPC.
    pub async fn stop(&self, container: &TaskId) -> Result<()> {
        self.stop_task(container.as_str()).await
    }

    async fn tasks(&self, app: Option<&AppId>) -> Result<Vec<api::TaskStats>> {
        let query = api::TaskListRequest {
            environment_name: self.client.environment_name(),
            app_id: app.map(ToString::to_string).unwrap_or_default(),
        };
        let operation = Operation::new("list", "the containers");
        Ok(self.client.call(&methods::TASK_LIST, &query, operation).await?.tasks)
    }

    async fn stop_task(&self, task: &str) -> Result<()> {
        let query = api::ContainerStopRequest { task_id: task.to_owned(), ..Default::default() };
        let operation = Operation::new("stop", format!("container `{task}`"));
        self.client.call(&methods::CONTAINER_STOP, &query, operation).await.map(drop)
    }

    /// Stops the containers of an app that were asked for before a moment, and waits until they are gone.
    pub(crate) async fn stop_enqueued_before(&self, app: &AppId, moment: f64) -> Result<()> {
        let mut asked: Vec<String> = Vec::new();
        let stopped = async {
            loop {
                let tasks = self.tasks(Some(app)).await?.into_iter();
                let old =
                    |task: &api::TaskStats| task.enqueued_at > 0.0 && task.enqueued_at < moment;
                let old: Vec<String> = tasks.filter(old).map(|task| task.task_id).collect();
                if old.is_empty() {
                    return Ok(());
                }
                let mut stopping: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
                for task in old.iter().filter(|task| !asked.contains(task)) {
                    stopping.push(Box::pin(self.stop_task(task)));
                }
                let stopped = stream::iter(stopping).buffer_unordered(PARALLEL_STOPS);
                stopped.try_collect::<()>().await?;
                asked = old;
                tokio::time::sleep(STOP_POLL).await;
            }
        };
        match tokio::time::timeout(STOP_LIMIT, stopped).await {
            Ok(stopped) => stopped,
            Err(_) => Err(Error::deadline(
                Operation::new("stop", format!("the old containers of app `{app}`")),
                format!("some still ran after {STOP_LIMIT:?}; the new version is deployed"),
            )),
        }
    }
}

impl TryFrom<api::TaskStats> for ContainerInfo {
    type Error = crate::ids::InvalidId;

    fn try_from(task: api::TaskStats) -> Result<Self, Self::Error> {
        Ok(Self {
            id: TaskId::try_from(task.task_id)?,
            app: AppId::try_from(task.app_id).ok(),
            app_description: task.app_description,
            enqueued_at: clock::from_unix(task.enqueued_at),
            started_at: clock::from_unix(task.started_at),
        })
    }
}
