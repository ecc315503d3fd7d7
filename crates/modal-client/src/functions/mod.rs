//! Functions: code that the server runs when it is called, from Python, by HTTP or from here.

mod call;
mod collect;
mod commit;
mod deploy;
mod generate;
mod map;
mod request;
mod scaling;
mod site;
mod spec;
mod web;

use modal_proto::client as api;

pub use call::FunctionCall;
pub use commit::Commit;
pub use deploy::{Deploy, DeployStrategy, Deployment};
pub use map::FunctionMap;
pub use scaling::{Autoscaling, Retries, Schedule};
pub use spec::FunctionSpec;
pub use web::Web;

use crate::{
    client::Client,
    error::{Error, Operation, Result},
    ids::{AppId, FunctionId},
    rpc::methods,
};

/// What travels inside of a message; anything longer goes through a blob.
const INLINE: usize = 2 * 1024 * 1024;
/// The same for calls that nobody waits for.
const INLINE_SPAWNED: usize = 8 * 1024;

/// A deployed function. Clones are the same function.
#[derive(Debug, Clone)]
pub struct Function {
    client: Client,
    id: FunctionId,
    name: String,
    metadata: api::FunctionHandleMetadata,
}

/// How busy a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStats {
    /// Inputs that wait for a container.
    pub backlog: u32,
    /// Containers that run.
    pub containers: u32,
    /// Inputs that are worked on.
    pub running_inputs: u32,
    /// Inputs that the containers could take on top of those.
    pub headroom: u32,
}

impl Client {
    /// The function of that name of a deployed app. One RPC.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the app is not deployed or has no such function.
    pub async fn function(&self, app: &str, name: &str) -> Result<Function> {
        let operation =
            || Operation::new("look up", self.object("function", &format!("{app}/{name}")));
        let query = get_request(app, name, self.environment_name());
        let answer = self.call(&methods::FUNCTION_GET, &query, operation()).await?;
        let metadata = answer.handle_metadata.unwrap_or_default();
        Function::of(self, answer.function_id, name, metadata, operation)
    }
}

impl Function {
    fn of(
        client: &Client,
        id: String,
        name: &str,
        metadata: api::FunctionHandleMetadata,
        operation: impl Fn() -> Operation,
    ) -> Result<Self> {
        let id = FunctionId::try_from(id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        Ok(Self { client: client.clone(), id, name: name.to_owned(), metadata })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its id.
    pub fn id(&self) -> &FunctionId {
        &self.id
    }

    /// Its name in its app.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The app it belongs to, where the server says it.
    pub fn app(&self) -> Option<AppId> {
        AppId::try_from(self.metadata.app_id.clone()).ok()
    }

    /// Where it is reached by HTTP, if it is: as the server gives it.
    pub fn web_url(&self) -> Option<&str> {
        Some(self.metadata.web_url.as_str()).filter(|url| !url.is_empty())
    }

    /// How busy it is. One RPC.
    pub async fn stats(&self) -> Result<FunctionStats> {
        let query = api::FunctionGetCurrentStatsRequest { function_id: self.id.to_string() };
        let method = &methods::FUNCTION_GET_CURRENT_STATS;
        let stats = self.client.call(method, &query, self.operation("look at")).await?;
        Ok(FunctionStats {
            backlog: stats.backlog,
            containers: stats.num_total_tasks,
            running_inputs: stats.num_running_inputs,
            headroom: stats.input_headroom,
        })
    }

    /// Changes how many containers it has, until it is deployed again. One RPC.
    pub async fn set_autoscaling(&self, autoscaling: Autoscaling) -> Result<()> {
        let query = api::FunctionUpdateSchedulingParamsRequest {
            function_id: self.id.to_string(),
            warm_pool_size_override: autoscaling.min.unwrap_or_default(),
            settings: Some(request::autoscaler(&autoscaling)),
        };
        let method = &methods::FUNCTION_UPDATE_SCHEDULING_PARAMS;
        self.client.call(method, &query, self.operation("scale")).await.map(drop)
    }

    fn operation(&self, verb: &'static str) -> Operation {
        Operation::new(verb, format!("function `{}`", self.name))
    }
}

pub(crate) fn get_request(
    app: &str,
    name: &str,
    environment_name: String,
) -> api::FunctionGetRequest {
    api::FunctionGetRequest {
        app_name: app.to_owned(),
        object_tag: name.to_owned(),
        environment_name,
        ..Default::default()
    }
}
