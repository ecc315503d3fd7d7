//! When a sandbox counts as ready: a probe of the server's, repeated until it succeeds.

use std::time::Duration;

use modal_proto::{client as api, task_command_router as router_api};

use super::Sandbox;
use crate::{
    error::{Error, Result},
    rpc::methods,
};

/// How much longer the answer may take than the sandbox.
const SLACK: Duration = Duration::from_secs(5);

/// What shows that a sandbox is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    kind: Kind,
    interval: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Tcp(u16),
    Exec(Vec<String>),
}

impl Probe {
    /// Something listens on this port.
    pub fn tcp(port: u16) -> Self {
        Self::new(Kind::Tcp(port))
    }

    /// This command ends with code 0.
    pub fn exec(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Kind::Exec(command.into_iter().map(Into::into).collect()))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, interval: Duration::from_millis(100) }
    }

    /// The pause between two attempts; a tenth of a second unless this is called.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    pub(super) fn to_wire(&self) -> api::Probe {
        use api::probe::{ExecCommand, ProbeOneof};
        let probe = match &self.kind {
            Kind::Tcp(port) => ProbeOneof::TcpPort((*port).into()),
            Kind::Exec(command) => ProbeOneof::ExecCommand(ExecCommand { argv: command.clone() }),
        };
        let interval = u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX);
        api::Probe { probe_oneof: Some(probe), interval_ms: Some(interval) }
    }
}

impl Sandbox {
    /// Waits until the probe that it was created with succeeds.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not within `limit`, [`Error::SandboxGone`] if the sandbox ends first,
    /// [`Error::Conflict`] or [`Error::Invalid`] if it has no probe.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let operation = self.operation("wait for the readiness of");
        let query = router_api::SandboxWaitUntilReadyTcrRequest {
            task_id: self.task().await?.to_string(),
            timeout: limit.as_secs_f32(),
        };
        let method = &methods::SANDBOX_WAIT_UNTIL_READY;
        let asked = self.router.unary(method, &query, &operation, Some(limit + SLACK)).await;
        match asked.map_err(|failure| failure.into_error(method.name, operation)) {
            Ok(_) => Ok(()),
            Err(Error::NotFound { operation, source }) => Err(self.router.gone(operation, source)),
            Err(error) => Err(error),
        }
    }
}
