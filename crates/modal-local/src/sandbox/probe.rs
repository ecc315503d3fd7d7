//! Readiness: a check that is tried until it succeeds once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use container_runtime::Container;
use tokio::time::{sleep, timeout};

use super::live::{LiveSandbox, Readiness};
use super::process::{Command, OutputTo, RunningProcess};
use super::records::Records;
use super::sockets;
use super::spec::{ProbeCheck, ProbeSpec};
use crate::clock;

/// A check that takes longer has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Tries `spec` until it succeeds. Ends with the sandbox: the caller drops the future.
pub(super) async fn run(sandbox: Arc<LiveSandbox>, spec: ProbeSpec, records: Records) {
    loop {
        let Ok(container) = sandbox.container() else { return };
        if timeout(CHECK_LIMIT, succeeds(&sandbox, &container, &spec.check)).await == Ok(true) {
            break;
        }
        sleep(spec.interval).await;
    }
    sandbox.set_readiness(Readiness::Ready(clock::now()));
    if let Err(error) = records.set_ready(&sandbox.id).await {
        tracing::warn!(%error, sandbox = %sandbox.id, "readiness not recorded");
    }
}

async fn succeeds(sandbox: &LiveSandbox, container: &Container, check: &ProbeCheck) -> bool {
    match check {
        ProbeCheck::Tcp(port) => sockets::connect(container, *port).await.is_ok(),
        ProbeCheck::Exec(argv) => {
            let Ok(running) = sandbox.running() else { return false };
            let command = Command {
                argv: argv.clone(),
                env: running.env.clone(),
                workdir: running.workdir.clone(),
                stdout: OutputTo::Null,
                stderr: OutputTo::Null,
                terminal: None,
                timeout: Some(CHECK_LIMIT),
            };
            run_check(container, command, &running.spill_dir).await
        }
    }
}

async fn run_check(container: &Container, command: Command, spill_dir: &Path) -> bool {
    match RunningProcess::start(container, command, spill_dir, None).await {
        Ok(process) => process.wait().await.shell_code() == 0,
        Err(error) => {
            tracing::debug!(%error, "readiness probe could not be started");
            false
        }
    }
}
