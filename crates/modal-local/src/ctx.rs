//! What every RPC handler can reach.

use std::ops::Deref;
use std::sync::Arc;

use crate::activity::Activity;
use crate::auth::Auth;
use crate::error::Result;
use crate::idempotency::Idempotency;
use crate::image::Images;
use crate::sandbox::Sandboxes;
use crate::server::ServerConfig;
use crate::state::State;

/// The server's parts. Clones share them.
#[derive(Clone)]
pub(crate) struct Ctx {
    parts: Arc<Parts>,
}

/// The server's parts.
pub(crate) struct Parts {
    /// Where clients reach this server: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// Tokens, JWTs and signed URLs.
    pub(crate) auth: Auth,
    /// Answers of recent mutating calls.
    pub(crate) idempotency: Idempotency,
    /// When the server was last used.
    pub(crate) activity: Activity,
    /// Records and files.
    pub(crate) state: State,
    /// Images and their builds.
    pub(crate) images: Images,
    /// Live sandboxes.
    pub(crate) sandboxes: Sandboxes,
    /// What the server was started with.
    pub(crate) config: ServerConfig,
}

impl Ctx {
    /// Opens everything below the state directory.
    pub(crate) async fn open(config: ServerConfig, url: String) -> Result<Self> {
        let state = State::open(config.state_dir.clone()).await?;
        let auth = Auth::open(&state.dir, config.token.clone())?;
        let images = Images::open(&state).await?;
        let sandboxes = Sandboxes::open(&state).await?;
        let parts = Parts {
            url,
            auth,
            idempotency: Idempotency::default(),
            activity: Activity::new(),
            state,
            images,
            sandboxes,
            config,
        };
        Ok(Self { parts: Arc::new(parts) })
    }
}

impl Deref for Ctx {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
