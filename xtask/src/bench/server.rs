//! The local server that ours and the peers share.

use std::path::Path;

use anyhow::Context as _;
use modal_client::{Client, Config};
use modal_local::{StateDir, daemon};

use crate::{context::Context, local_server::LocalServer, target::Target};

/// A server of this machine, a client of it, and what points the official SDK at it.
pub(super) struct Local {
    pub(super) client: Client,
    pub(super) environment: Vec<(&'static str, String)>,
    state: StateDir,
}

impl Local {
    /// This machine's usual server, started where none runs: it has images already.
    pub(super) async fn of(context: &Context) -> anyhow::Result<Self> {
        anyhow::ensure!(
            context.choice.target == Target::Local,
            "this benchmark measures the local server: add --target local"
        );
        Self::at(context.state.root(), &context.environment).await
    }

    /// The server of a state directory.
    pub(super) async fn at(root: &Path, environment: &str) -> anyhow::Result<Self> {
        let server = LocalServer::at(root).ensure_running().await?;
        let secret = server.token_secret.expose().to_owned();
        let variables = vec![
            ("MODAL_SERVER_URL", server.url.clone()),
            ("MODAL_TOKEN_ID", server.token_id.clone()),
            ("MODAL_TOKEN_SECRET", secret.clone()),
            ("MODAL_ENVIRONMENT", environment.to_owned()),
        ];
        let client = Client::connect(Config::new(&server.url, &server.token_id, secret)).await?;
        client.environments().get_or_create(environment).await?;
        Ok(Self {
            client: client.with_environment(environment),
            environment: variables,
            state: StateDir::new(root),
        })
    }

    /// Its process.
    pub(super) async fn process(&self) -> anyhow::Result<i32> {
        let status = daemon::status(&self.state).await?;
        Ok(status.context("the local server has ended")?.pid)
    }

    /// Ends it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        daemon::stop(&self.state).await?;
        Ok(())
    }
}
