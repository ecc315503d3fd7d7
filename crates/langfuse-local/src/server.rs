//! The HTTP server: routes, limits, start and stop.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    auth::FastHashes,
    database,
    error::{Error, Result},
    init,
    models::Models,
    settings::{Secret, Settings},
};

/// What every request needs.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) pool: PgPool,
    pub(crate) salt: Secret,
    pub(crate) models: Arc<Models>,
    pub(crate) fast_hashes: FastHashes,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    pool: PgPool,
}

impl Server {
    /// Opens the database, makes what is missing, and serves on `settings.listen` (port 0 picks a free one).
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Listen`].
    pub async fn start(settings: Settings) -> Result<Self> {
        let pool = database::open(&settings.database_url).await?;
        let fast_hashes = FastHashes::default();
        if let Some(init) = &settings.init {
            init::provision(&pool, init, &settings.salt).await?;
            let secret = init.keys.as_ref().map(|(_, secret)| secret.expose());
            secret
                .map(|it| init::fast_hash(it, &settings.salt))
                .into_iter()
                .for_each(|it| fast_hashes.add(it));
        }
        let address = settings.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        let models = Arc::new(Models::default());
        let app = App { pool: pool.clone(), salt: settings.salt, models, fast_hashes };
        let router: Router = api::router(app);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped).await
        });
        Ok(Self { address, stop, task, pool })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it: requests that are being answered are answered, new ones are not taken.
    ///
    /// # Errors
    /// [`Error::Serve`] where it had failed before.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let served = self.task.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        self.pool.close().await;
        served.map_err(|source| Error::Serve { source })
    }
}
