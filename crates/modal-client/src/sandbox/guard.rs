//! Ending a sandbox with its last handle, for those who chose that.

use std::sync::atomic::{AtomicBool, Ordering};

use modal_proto::client as api;

use super::SandboxVersion;
use crate::{client::Client, error::Operation, ids::SandboxId, rpc::methods};

/// Terminates a sandbox when it is dropped, unless somebody did before.
pub(super) struct Guard {
    client: Client,
    sandbox: SandboxId,
    armed: AtomicBool,
}

impl Guard {
    pub(super) fn new(client: Client, sandbox: SandboxId) -> Self {
        Self { client, sandbox, armed: AtomicBool::new(true) }
    }

    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A drop cannot wait: the request is sent by the runtime, if there still is one.
        let (true, Ok(runtime)) = (*self.armed.get_mut(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (client, sandbox) = (self.client.clone(), self.sandbox.clone());
        runtime.spawn(async move {
            let operation = Operation::new("terminate", format!("sandbox `{sandbox}`"));
            let query = api::SandboxTerminateRequest { sandbox_id: sandbox.to_string() };
            let (v1, v2) = (&methods::SANDBOX_TERMINATE, &methods::SANDBOX_TERMINATE_V2);
            let method = SandboxVersion::of(&sandbox).choose(v1, v2);
            if let Err(error) = client.call(method, &query, operation).await {
                tracing::warn!(%error, "a sandbox was dropped and could not be terminated");
            }
        });
    }
}
