//! Deploying an app: its functions are created under ids that the server gave before, then published together.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use futures::future::{BoxFuture, try_join_all};
use modal_proto::client as api;

use super::{
    Commit, Function, FunctionSpec,
    site::{Announced, Listener, Made, Parts, Site},
    spec,
};
use crate::{
    apps::App,
    client::Client,
    clock,
    error::{Error, Operation, Result},
    ids::{AppId, FunctionId},
    image::BuildEvent,
    mount,
    rpc::{metadata::CLIENT_VERSION, methods},
};

/// What happens to the containers of the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeployStrategy {
    /// They finish what they do while new ones start.
    #[default]
    Rolling,
    /// They are stopped at once; until new ones have started, inputs wait.
    Recreate,
}

/// Deploys an app; see [`Client::deploy`].
#[derive(Clone)]
#[must_use = "nothing is deployed until it is awaited"]
pub struct Deploy {
    client: Client,
    name: String,
    tag: String,
    tags: BTreeMap<String, String>,
    strategy: DeployStrategy,
    commit: Option<Commit>,
    functions: Vec<FunctionSpec>,
    kept: Vec<String>,
    addresses: Vec<AddressVariable>,
    listener: Option<Listener>,
}

/// A variable of one function that holds the address of another, or its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AddressVariable {
    function: String,
    variable: String,
    of: String,
}

impl fmt::Debug for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deploy")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// An app that was deployed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Deployment {
    /// The app.
    pub app: App,
    /// Its page on Modal's site.
    pub url: String,
    /// When it was deployed; `None` if it was deployed like this already.
    pub deployed_at: Option<SystemTime>,
    /// Its functions by name.
    pub functions: BTreeMap<String, Function>,
}

impl Client {
    /// Deploys an app of that name: what was deployed under it before is replaced.
    ///
    /// ```no_run
    /// # async fn example(client: modal_client::Client) -> modal_client::Result<()> {
    /// use modal_client::{FunctionSpec, Image};
    ///
    /// let image = Image::debian_slim();
    /// let files = FunctionSpec::server("files", ["python", "-m", "http.server", "8000"], 8000, &image);
    /// let deployed = client.deploy("my-site").function(files).await?;
    /// println!("{}", deployed.functions["files"].web_url().unwrap_or("no address"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn deploy(&self, name: impl Into<String>) -> Deploy {
        Deploy {
            client: self.clone(),
            name: name.into(),
            tag: String::new(),
            tags: BTreeMap::new(),
            strategy: DeployStrategy::Rolling,
            commit: None,
            functions: Vec::new(),
            kept: Vec::new(),
            addresses: Vec::new(),
            listener: None,
        }
    }
}

impl Deploy {
    /// A function of the app.
    pub fn function(mut self, spec: FunctionSpec) -> Self {
        self.functions.push(spec);
        self
    }

    /// A function that stays as it was deployed. Whatever is named neither here nor by [`function`](Self::function) is
    /// no part of the app any more.
    pub fn keep(mut self, function: impl Into<String>) -> Self {
        self.kept.push(function.into());
        self
    }

    /// Gives `function` a variable with the address of the web function `of`, which may be itself. The server is asked
    /// for the address before anything is built; where it does not tell, the app is published once without the variable.
    pub fn address_variable(
        mut self,
        function: impl Into<String>,
        variable: impl Into<String>,
        of: impl Into<String>,
    ) -> Self {
        let (function, variable, of) = (function.into(), variable.into(), of.into());
        self.addresses.push(AddressVariable { function, variable, of });
        self
    }

    /// A word for this version in the app's history.
    pub fn version_tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// A tag of the app.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// What happens to the containers of the version before.
    pub fn strategy(mut self, strategy: DeployStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The commit that it is made from, for the app's history.
    pub fn commit(mut self, commit: Commit) -> Self {
        self.commit = Some(commit);
        self
    }

    /// Calls `listener` with what the builder of the functions' images prints.
    pub fn on_log(self, mut listener: impl FnMut(&str) + Send + 'static) -> Self {
        self.on_build(move |event| {
            if let BuildEvent::Output(text) = event {
                listener(text);
            }
        })
    }

    /// Calls `listener` with everything that happens while images are built.
    pub fn on_build(mut self, listener: impl FnMut(BuildEvent<'_>) + Send + 'static) -> Self {
        self.listener = Some(Arc::new(Mutex::new(listener)));
        self
    }

    async fn send(self) -> Result<Deployment> {
        let operation = self.operation();
        for spec in &self.functions {
            spec::check(spec).map_err(|problem| Error::invalid(operation.clone(), problem))?;
        }
        let mut names: Vec<&str> = self.functions.iter().map(FunctionSpec::name).collect();
        names.sort_unstable();
        let is_there = |name: &String| names.contains(&name.as_str());
        let is_kept = |name: &String| self.kept.contains(name);
        let lost = self.addresses.iter();
        let lost = lost
            .clone()
            .find(|it| !is_there(&it.function) || !(is_there(&it.of) || is_kept(&it.of)));
        if let Some(AddressVariable { function, variable, of }) = lost {
            let problem = format!(
                "`{variable}` is for `{function}`, with the address of `{of}`: both must be functions of the app"
            );
            return Err(Error::invalid(operation, problem));
        }
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem = format!("there are two functions `{}`", twice[0]);
            return Err(Error::invalid(operation, problem));
        }
        let (app, existing) = self.app().await?;
        let site = Site {
            client: self.client.clone(),
            app: app.clone(),
            name: self.name.clone(),
            listener: self.listener.clone(),
        };
        let _alive = site.heartbeat();
        let publishing: BoxFuture<'_, _> = Box::pin(self.create_and_publish(&site, existing));
        match publishing.await {
            Ok(deployment) => Ok(deployment),
            Err(error) => {
                // An app that was deployed before stays: this ends only one that is being set up.
                let disconnect = disconnect_request(&app);
                let call =
                    self.client.call(&methods::APP_CLIENT_DISCONNECT, &disconnect, operation);
                if let Err(problem) = call.await {
                    tracing::debug!(%problem, "a failed deployment could not be ended");
                }
                Err(error)
            }
        }
    }

    fn operation(&self) -> Operation {
        Operation::new("deploy", self.client.object("app", &self.name))
    }

    /// The app to deploy to, and the ids of the functions that it has.
    async fn app(&self) -> Result<(AppId, HashMap<String, String>)> {
        let found = self.client.apps().find(&self.name).await?;
        let unusable = |error: crate::ids::InvalidId| Error::Protocol {
            operation: self.operation(),
            source: error.into(),
        };
        if let Some(app) = found {
            let query = api::AppGetLayoutRequest { app_id: app.to_string() };
            let answer =
                self.client.call(&methods::APP_GET_LAYOUT, &query, self.operation()).await?;
            return Ok((app, answer.app_layout.unwrap_or_default().function_ids));
        }
        let query = api::AppCreateRequest {
            description: self.name.clone(),
            environment_name: self.client.environment_name(),
            app_state: api::AppState::Initializing.into(),
            tags: self.tags.clone().into_iter().collect(),
            ..Default::default()
        };
        let answer = self.client.call(&methods::APP_CREATE, &query, self.operation()).await?;
        Ok((AppId::try_from(answer.app_id).map_err(unusable)?, HashMap::new()))
    }

    async fn create_and_publish(
        &self,
        site: &Site,
        existing: HashMap<String, String>,
    ) -> Result<Deployment> {
        let mut precreating: Vec<BoxFuture<'_, Result<Announced>>> = Vec::new();
        for spec in &self.functions {
            let id = existing.get(&spec.name).cloned();
            precreating.push(Box::pin(site.precreate(spec, id)));
        }
        let announced = try_join_all(precreating).await?;
        let names = self.functions.iter().map(|spec| spec.name.clone());
        let told = announced.iter().map(|told| told.address.clone());
        let mut addresses: HashMap<String, String> = names.zip(told).collect();
        let ids: Vec<FunctionId> = announced.into_iter().map(|told| told.id).collect();
        let kept = self.kept_functions().await?;
        for function in &kept {
            let address = function.web_url().unwrap_or_default();
            addresses.insert(function.name.clone(), address.to_owned());
        }
        let mut parts = Parts::default();
        if let Some(functions) = self.with_addresses(&addresses) {
            let made = self.create_all(site, &functions, &ids, &mut parts).await?;
            return self.publish(site, made, &kept).await;
        }
        let made = self.create_all(site, &self.functions, &ids, &mut parts).await?;
        self.publish(site, made, &kept).await?;
        for spec in &self.functions {
            let function = self.client.function(&self.name, &spec.name).await?;
            addresses.insert(spec.name.clone(), function.web_url().unwrap_or_default().to_owned());
        }
        let functions = self.with_addresses(&addresses).ok_or_else(|| {
            Error::protocol(self.operation(), "a web function has no address after its deployment")
        })?;
        let made = self.create_all(site, &functions, &ids, &mut parts).await?;
        self.publish(site, made, &kept).await
    }

    async fn kept_functions(&self) -> Result<Vec<Function>> {
        let mut kept = Vec::new();
        for name in &self.kept {
            kept.push(self.client.function(&self.name, name).await?);
        }
        Ok(kept)
    }

    /// The functions with the variables that hold addresses; nothing if one is not known.
    fn with_addresses(&self, addresses: &HashMap<String, String>) -> Option<Vec<FunctionSpec>> {
        let mut functions = self.functions.clone();
        for AddressVariable { function, variable, of } in &self.addresses {
            let address = addresses.get(of).filter(|address| !address.is_empty())?;
            let spec = functions.iter_mut().find(|spec| spec.name == *function)?;
            spec.env.insert(variable.clone(), address.as_str().into());
        }
        Some(functions)
    }

    async fn create_all(
        &self,
        site: &Site,
        functions: &[FunctionSpec],
        ids: &[FunctionId],
        parts: &mut Parts,
    ) -> Result<Vec<Made>> {
        let client_mount = match functions.is_empty() {
            true => None,
            false => Some(mount::global(&self.client, &client_mount_name()).await?.id),
        };
        let mut ready = Vec::new();
        for (spec, id) in functions.iter().zip(ids) {
            let resolved = site.resolve(spec, &client_mount, parts).await?;
            ready.push((spec, id, resolved));
        }
        let mut creating: Vec<BoxFuture<'_, Result<Made>>> = Vec::new();
        for (spec, id, resolved) in &ready {
            creating.push(Box::pin(site.create(spec, id, resolved)));
        }
        try_join_all(creating).await
    }

    async fn publish(&self, site: &Site, made: Vec<Made>, kept: &[Function]) -> Result<Deployment> {
        let query = api::AppPublishRequest {
            app_id: site.app.to_string(),
            name: self.name.clone(),
            deployment_tag: self.tag.clone(),
            app_state: api::AppState::Deployed.into(),
            function_ids: made
                .iter()
                .map(|made| (made.name.clone(), made.function.id.to_string()))
                // Without a definition: the one it has.
                .chain(kept.iter().map(|function| (function.name.clone(), function.id.to_string())))
                .collect(),
            definition_ids: made
                .iter()
                .map(|made| {
                    (made.function.id.to_string(), made.function.metadata.definition_id.clone())
                })
                .collect(),
            tags: self.tags.clone().into_iter().collect(),
            commit_info: self.commit.clone().map(Commit::into_message),
            ..Default::default()
        };
        let answer = self.client.call(&methods::APP_PUBLISH, &query, self.operation()).await?;
        for warning in &answer.server_warnings {
            tracing::warn!("{}", warning.message);
        }
        let deployed_at = clock::from_unix(answer.deployed_at);
        if self.strategy == DeployStrategy::Recreate && deployed_at.is_some() {
            let containers = self.client.containers();
            containers.stop_enqueued_before(&site.app, answer.deployed_at).await?;
        }
        Ok(Deployment {
            app: App { id: site.app.clone(), name: self.name.clone() },
            url: answer.url,
            deployed_at,
            functions: made
                .into_iter()
                .map(|made| (made.name, made.function))
                .chain(kept.iter().map(|function| (function.name.clone(), function.clone())))
                .collect(),
        })
    }
}

impl IntoFuture for Deploy {
    type Output = Result<Deployment>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Modal's own mount with the client that runs in containers.
fn client_mount_name() -> String {
    format!("modal-client-mount-{CLIENT_VERSION}")
}

fn disconnect_request(app: &AppId) -> api::AppClientDisconnectRequest {
    api::AppClientDisconnectRequest {
        app_id: app.to_string(),
        reason: api::AppDisconnectReason::DeploymentException.into(),
        exception: String::new(),
    }
}
