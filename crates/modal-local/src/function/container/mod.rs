//! One container of a function: made, run by the unchanged entrypoint of Modal's package, ended.
//!
//! It speaks to this server over a socket in a directory of its own ([`plane`]): whoever connects
//! there is that container, and needs no credentials.

mod arguments;
mod output;
mod plane;
mod prepare;
mod ready;

use std::sync::Arc;
use std::time::Duration;

use container_runtime::{Container, Exit, ExitStatus, Process};
use modal_proto::client::GenericResult;
use modal_proto::client::generic_result::GenericStatus;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::prepare::Prepared;
use super::outcome;
use super::pool::Pool;
use super::task::{Stop, Task};
use crate::ctx::Ctx;
use crate::error::Error;
use crate::sandbox::disk_watch;

pub(crate) use self::output::{WAITS_FOR_A_PERSON, announce_terminal};
pub(crate) use self::plane::Identity;
pub(crate) use self::ready::await_server;

/// How long a program that was interrupted may take to clear up, as on Modal.
const CLEAR_UP: Duration = Duration::from_secs(30);
/// How long processes in uninterruptible sleep may hold up the news of the end.
const TERMINATE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last output may take to reach the log.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);
const SIGINT: i32 = 2;
/// What servers are told to end by; Modal's entrypoint waits for it.
const SIGTERM: i32 = 15;

/// How a container ended.
pub(crate) enum Ended {
    /// It was never made.
    NotStarted(Error),
    /// Its program ended by itself.
    Exited(ExitStatus),
    /// It wrote too much to the disk; a sentence says how much.
    DiskFull(String),
    /// It was ended.
    Stopped,
}

impl Ended {
    /// As one sentence.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::NotStarted(error) => format!("the container could not be made: {error}"),
            Self::Exited(status) if status.oom => {
                "the container reached its memory limit and was killed".to_owned()
            }
            Self::Exited(status) => match status.how {
                Exit::Code(0) => "the container ended".to_owned(),
                Exit::Code(code) => format!("the container exited with code {code}"),
                Exit::Signal(signal) => format!("the container was killed by signal {signal}"),
            },
            Self::DiskFull(excess) => format!("the container was ended, out of disk: {excess}"),
            Self::Stopped => "the container was stopped".to_owned(),
        }
    }

    /// As the API says it.
    pub(crate) fn result(&self) -> GenericResult {
        let status = match self {
            Self::NotStarted(_) => GenericStatus::InitFailure,
            Self::Exited(status) if status.shell_code() == 0 => GenericStatus::Success,
            Self::Exited(_) | Self::DiskFull(_) => GenericStatus::Failure,
            Self::Stopped => GenericStatus::Terminated,
        };
        outcome::result(status, self.text())
    }
}

/// Makes the container of a task and returns when it is gone.
pub(super) async fn run(ctx: &Ctx, pool: &Arc<Pool>, task: &Arc<Task>) -> Ended {
    let prepared = tokio::select! {
        prepared = prepare::prepare(ctx, pool, task) => prepared,
        _ = task.asked_to(Stop::Interrupt) => return Ended::Stopped,
    };
    let mut prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            output::say(ctx, task, &format!("the container could not be made: {error}")).await;
            return Ended::NotStarted(error);
        }
    };
    let logs = output::follow(ctx, task, &mut prepared.process);
    if task.spec.is_server() {
        // From now on its start-up time counts.
        pool.changed.notify_one();
    }
    if task.spec.is_direct() {
        tokio::spawn(ready::await_server(Arc::clone(pool), Arc::clone(task)));
    }
    let ended = tokio::select! {
        ended = supervise(task, &prepared.process) => ended,
        excess = disk_watch::exceeds(prepared.disk.clone()) => Ended::DiskFull(excess),
    };
    clear(ctx, task, prepared, logs, &ended).await;
    ended
}

/// Waits for the end, and brings it about when it is asked for.
async fn supervise(task: &Task, process: &Process) -> Ended {
    let asked = tokio::select! {
        biased;
        asked = task.asked_to(Stop::Interrupt) => asked,
        status = process.wait() => return exited(status),
        () = drained(task) => Stop::Interrupt,
    };
    if asked == Stop::Interrupt {
        let is_server = task.spec.is_server();
        let signal = if is_server { SIGTERM } else { SIGINT };
        if let Err(error) = process.kill(signal).await
            && !error.is_gone()
        {
            tracing::warn!(%error, task = %task.id, "a container could not be interrupted");
        }
        tokio::select! {
            biased;
            status = process.wait() => return if is_server { Ended::Stopped } else { exited(status) },
            _ = task.asked_to(Stop::Kill) => {}
            () = tokio::time::sleep(CLEAR_UP) => {}
        }
    }
    Ended::Stopped
}

/// Returns when a container that gets no further inputs has had time enough to end by itself.
async fn drained(task: &Task) {
    task.asked_to(Stop::Drain).await;
    if task.spec.is_server() {
        return answered(task).await;
    }
    while task.running_count() > 0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(CLEAR_UP).await;
}

/// Returns when a server has answered its last request, or has had its time for that.
async fn answered(task: &Task) {
    let over = Instant::now() + task.spec.exit_grace();
    loop {
        let rung = task.bell.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        if task.running_count() == 0 {
            return;
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(over) => return,
        }
    }
}

fn exited(status: container_runtime::Result<ExitStatus>) -> Ended {
    status.map_or(Ended::Stopped, Ended::Exited)
}

async fn clear(ctx: &Ctx, task: &Task, prepared: Prepared, mut logs: JoinSet<()>, ended: &Ended) {
    let Prepared { container, network, plane, scratch, tun, process, leases, disk: _ } = prepared;
    if let Ok(place) = task.place() {
        place.close().await;
    }
    terminate(task, container).await;
    drop((plane, process, tun));
    network.stop().await;
    let flushed = async { while logs.join_next().await.is_some() {} };
    if timeout(OUTPUT_LIMIT, flushed).await.is_err() {
        tracing::warn!(task = %task.id, "the last output is late for the log");
    }
    let is_failure = match ended {
        Ended::Exited(status) => status.oom || status.shell_code() != 0,
        Ended::DiskFull(_) => true,
        Ended::NotStarted(_) | Ended::Stopped => false,
    };
    if is_failure
        && task.result().is_none()
        && task.stopping().is_none_or(|stop| stop == Stop::Drain)
    {
        output::say(ctx, task, &ended.text()).await;
    }
    drop((scratch, leases));
}

async fn terminate(task: &Task, container: Container) {
    let id = task.id.clone();
    let terminating = tokio::spawn(async move {
        if let Err(error) = container.terminate().await
            && !error.is_gone()
        {
            tracing::warn!(%error, task = %id, "container not ended cleanly");
        }
    });
    if timeout(TERMINATE_LIMIT, terminating).await.is_err() {
        tracing::warn!(task = %task.id, "processes are still ending");
    }
}
