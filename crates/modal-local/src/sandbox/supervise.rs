//! The life of a sandbox after its start, and its end: exactly one, whatever brings it about.

use std::sync::Arc;
use std::time::Duration;

use container_runtime::{Container, Ended};
use modal_proto::client::FileDescriptor;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::disk::Scratch;
use super::disk_watch::DiskWatch;
use super::ending::Ending;
use super::live::LiveSandbox;
use super::network::Network;
use super::process::RunningProcess;
use super::spec::SandboxSpec;
use super::tunnels::Tunnels;
use super::{disk_watch, output, probe, snapshot};
use crate::ctx::Ctx;
use crate::failpoint::{Point, reach};
use crate::image::Lease;

/// How long processes in uninterruptible sleep may hold up the news of the end.
const TERMINATE_LIMIT: Duration = Duration::from_secs(10);
/// After how long an end that could not be recorded is recorded again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// How long the last output may take to reach the app's log.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// What belongs to a running sandbox and goes with it.
pub(super) struct Parts {
    pub(super) network: Network,
    pub(super) tunnels: Tunnels,
    pub(super) scratch: Scratch,
    pub(super) disk: DiskWatch,
    /// Keeps the layers of its image.
    pub(super) image: Lease,
}

/// Watches over a sandbox that has just started.
pub(super) fn spawn(ctx: &Ctx, sandbox: &Arc<LiveSandbox>, spec: SandboxSpec, parts: Parts) {
    tokio::spawn(supervise(ctx.clone(), Arc::clone(sandbox), spec, parts));
}

async fn supervise(ctx: Ctx, sandbox: Arc<LiveSandbox>, spec: SandboxSpec, parts: Parts) {
    let Ok(running) = sandbox.running() else { return };
    let mut logs = forward_output(&ctx, &sandbox, &running.entrypoint);
    let mut probing = JoinSet::new();
    if let Some(probe) = spec.probe.clone() {
        probing.spawn(probe::run(Arc::clone(&sandbox), probe, ctx.sandboxes.records.clone()));
    }
    let ending = cause(&sandbox, &running.entrypoint, &spec, &parts).await;
    if !ending.reason.is_empty() {
        ctx.logs.say(sandbox.log_source(), format!("ended: {}", ending.reason)).await;
    }
    drop((probing, parts.tunnels));
    if sandbox.is_sidecar() {
        sandbox.neighbours.leave(sandbox.container_name());
        sandbox.neighbours.write_names().await;
    } else {
        sandbox.end_sidecars().await;
        sandbox.neighbours.leave(sandbox.container_name());
    }
    if let Some(container) = sandbox.close() {
        terminate(&sandbox, container).await;
    }
    parts.network.stop().await;
    if spec.exit_snapshot {
        snapshot::at_exit(&ctx, &sandbox, &running.root).await;
    }
    let flushed = async { while logs.join_next().await.is_some() {} };
    if timeout(OUTPUT_LIMIT, flushed).await.is_err() {
        tracing::warn!(sandbox = %sandbox.id, "the last output is late for the log");
    }
    if sandbox.is_sidecar() {
        tracing::info!(sandbox = %sandbox.sandbox_id(), name = sandbox.container_name(), "sidecar ended");
    } else {
        record_end(&ctx, &sandbox, &ending).await;
    }
    sandbox.set_ended(ending);
    sandbox.attachments.clear().await;
    drop((parts.scratch, parts.image));
    logs.detach_all();
}

/// Writes down the end of a sandbox, and closes its log.
async fn record_end(ctx: &Ctx, sandbox: &Arc<LiveSandbox>, ending: &Ending) {
    reach(Point::EndUnrecorded);
    // The log ends before anybody is told that the sandbox has: its last line is there by then.
    let (recorded, ()) = tokio::join!(
        ctx.sandboxes.records.set_ended(&sandbox.id, ending),
        ctx.logs.finish_task(&sandbox.task)
    );
    if let Err(error) = recorded {
        tracing::warn!(%error, sandbox = %sandbox.id, "end not recorded yet");
        tokio::spawn(record_later(ctx.clone(), Arc::clone(sandbox), ending.clone()));
    }
    let status = ending.status.as_str_name();
    tracing::info!(sandbox = %sandbox.id, status, exit_code = ending.exit_code, "sandbox ended");
    ctx.sandboxes.registry.retire(sandbox);
}

/// Records an end once that is possible again: the disk may be full for a while.
async fn record_later(ctx: Ctx, sandbox: Arc<LiveSandbox>, ending: Ending) {
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = sleep(RECORD_AGAIN) => {}
        }
        if ctx.sandboxes.records.set_ended(&sandbox.id, &ending).await.is_ok() {
            return;
        }
    }
}

/// Waits for whatever ends the sandbox first.
async fn cause(
    sandbox: &LiveSandbox,
    entrypoint: &RunningProcess,
    spec: &SandboxSpec,
    parts: &Parts,
) -> Ending {
    let container = sandbox.container().ok();
    let container_ended = async {
        match &container {
            Some(container) => container.ended().await,
            None => std::future::pending().await,
        }
    };
    let entrypoint_ended = async {
        match (entrypoint.ending().await, &container) {
            (Some(ending), _) => ending,
            // It went with its container, whose end is the sandbox's.
            (None, Some(container)) => container_gone(container.ended().await),
            (None, None) => Ending::internal("the container is gone"),
        }
    };
    tokio::select! {
        biased;
        ending = sandbox.stop_requested() => ending,
        // Before the entrypoint: it may have ended only because the container went.
        ended = container_ended => container_gone(ended),
        ending = entrypoint_ended => ending,
        excess = disk_watch::exceeds(parts.disk.clone()) => Ending::disk_full(&excess),
        () = sleep(spec.timeout) => Ending::timeout(),
        () = sandbox.activity.idle_for(spec.idle_timeout) => Ending::idle_timeout(),
    }
}

fn container_gone(ended: Ended) -> Ending {
    match ended {
        Ended::Terminated => Ending::terminated("the container was ended"),
        Ended::OutOfMemory => Ending::out_of_memory(),
        Ended::Failed(reason) => Ending::internal(format!("the container failed: {reason}")),
        Ended::RuntimeGone => Ending::internal("the container runtime stopped"),
    }
}

/// Ends every process of the sandbox. Waits for those in uninterruptible sleep only so long.
async fn terminate(sandbox: &LiveSandbox, container: Container) {
    let id = sandbox.id.clone();
    let terminating = tokio::spawn(async move {
        if let Err(error) = container.terminate().await
            && !error.is_gone()
        {
            tracing::warn!(%error, sandbox = %id, "container not ended cleanly");
        }
    });
    if timeout(TERMINATE_LIMIT, terminating).await.is_err() {
        tracing::warn!(sandbox = %sandbox.id, "processes are still ending");
    }
}

fn forward_output(
    ctx: &Ctx,
    sandbox: &Arc<LiveSandbox>,
    entrypoint: &RunningProcess,
) -> JoinSet<()> {
    let mut logs = JoinSet::new();
    let outputs = [
        (&entrypoint.stdout, FileDescriptor::Stdout),
        (&entrypoint.stderr, FileDescriptor::Stderr),
    ];
    for (output, from) in outputs {
        logs.spawn(output::forward(ctx.clone(), Arc::clone(sandbox), output.clone(), from));
    }
    logs
}
