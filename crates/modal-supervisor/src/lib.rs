//! `service-supervisor` for containers of Modal: a Dict says which container writes.
//!
//! The supervisor itself knows nothing of Modal, and this crate nothing of services: it gives one the other.

use std::sync::Arc;

use futures::future::BoxFuture;
use modal_client::{Client, Config, Dict, Environ};
use service_supervisor::{Register, RegisterError};
use tokio::sync::OnceCell;

/// A Dict as a register. Of several containers that put a key at once, the server lets one.
pub struct DictRegister {
    environ: Environ,
    name: String,
    dict: OnceCell<Dict>,
}

impl DictRegister {
    /// The Dict of that name, made if it is missing, on the server and in the environment that the variables name.
    /// Nothing is asked before its first use.
    pub fn new(name: impl Into<String>, environ: Environ) -> Self {
        Self { environ, name: name.into(), dict: OnceCell::new() }
    }

    /// As a container has it: Modal tells it where the server is, and knows it without a token.
    pub fn of_container(name: &str) -> Arc<dyn Register> {
        Arc::new(Self::new(name, Environ::of_process()))
    }

    async fn dict(&self) -> modal_client::Result<&Dict> {
        let open = async || {
            let client = Client::connect(Config::from_env_and_file(&self.environ)?).await?;
            client.dict(self.name.as_str()).create_if_missing().await
        };
        self.dict.get_or_try_init(open).await
    }
}

impl Register for DictRegister {
    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
    ) -> BoxFuture<'a, Result<bool, RegisterError>> {
        Box::pin(async move { Ok(self.dict().await?.put_if_absent(key, &value).await?) })
    }

    fn put<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), RegisterError>> {
        Box::pin(async move { Ok(self.dict().await?.put(key, &value).await?) })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, RegisterError>> {
        Box::pin(async move { Ok(self.dict().await?.get(key).await?) })
    }
}
