//! Serving until told to stop: the life of a server process.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::record::{Lock, ServerRecord};
use super::sweep::{SWEEP, Sweep};
use crate::ctx::Ctx;
use crate::durable;
use crate::error::{Error, Result};
use crate::function::schedule;
use crate::gc::{self, Thoroughness};
use crate::server::{Server, ServerConfig};

/// How often deleted files are removed from the disk.
const EMPTY_TRASH: Duration = Duration::from_secs(60);
/// How often garbage is collected.
const COLLECT: Duration = Duration::from_secs(3_600);
/// How long a command that only looks whether a server runs may hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How a server process behaves.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Leave the terminal and session of the command that started it.
    pub detach: bool,
    /// End after this long without sandboxes, builds and calls; without, never.
    pub idle_exit: Option<Duration>,
}

/// Serves until a signal, a request to stop, or idleness ends it; then ends all sandboxes.
///
/// Prints nothing; `on_ready` gets the server once it serves and its `server.json` is written.
pub async fn serve(
    config: ServerConfig,
    options: ServeOptions,
    on_ready: impl FnOnce(&Server),
) -> Result<()> {
    let dir = config.state_dir.clone();
    dir.create()?;
    if options.detach {
        // Fails for a session's leader, which has left already.
        let _ = rustix::process::setsid();
    }
    let _lock = take_lock(&dir).await?;
    empty(&dir.tmp())?;
    let server = Server::start(config).await?;
    ServerRecord::new(server.url(), server.token()).write(&dir)?;
    on_ready(&server);
    run(&server.ctx, options.idle_exit).await?;
    durable::remove_file(&dir.server_json())?;
    server.stop().await;
    Ok(())
}

/// Who only looks holds the lock for a moment; who serves holds it for good.
async fn take_lock(dir: &crate::StateDir) -> Result<Lock> {
    let until = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match Lock::take(dir)? {
            Some(lock) => return Ok(lock),
            None if Lock::is_held(dir)? || tokio::time::Instant::now() >= until => {
                return Err(Error::Locked { path: dir.root().to_owned() });
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Removes what an earlier server left half-done.
fn empty(directory: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::file("read", directory))? {
        let path = entry.map_err(Error::file("read", directory))?.path();
        gc::remove_any(&path)?;
    }
    Ok(())
}

/// Keeps house until the server is to end.
async fn run(ctx: &Ctx, idle_exit: Option<Duration>) -> Result<()> {
    let failed = |source| Error::Serve { source: Box::new(source) as _ };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let (mut sweep, mut clients) = (tokio::time::interval(SWEEP), Sweep::default());
    let mut empty_trash = tokio::time::interval(EMPTY_TRASH);
    let mut collect = tokio::time::interval(COLLECT);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    empty_trash.set_missed_tick_behavior(MissedTickBehavior::Delay);
    collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => {}
            () = ctx.stop.cancelled() => return Ok(()),
            _ = sweep.tick() => {
                clients.look(ctx).await;
                let idle = idle_exit.is_some_and(|limit| is_idle(ctx, limit));
                if idle && !schedule::any(ctx).await {
                    tracing::info!("nothing to do; ending");
                    return Ok(());
                }
            }
            _ = empty_trash.tick() => in_background(ctx, |ctx| async move {
                super::log::set_aside_long(&ctx.dir);
                gc::empty_trash(&ctx).await.map(drop)
            }),
            _ = collect.tick() => in_background(ctx, |ctx| async move {
                gc::collect(&ctx, Thoroughness::Regular).await.map(drop)
            }),
        }
    }
}

/// Removes garbage beside everything else; what fails is tried again next time.
fn in_background<W>(ctx: &Ctx, work: impl FnOnce(Ctx) -> W)
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let work = work(ctx.clone());
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::warn!(%error, "garbage was not removed");
        }
    });
}

fn is_idle(ctx: &Ctx, limit: Duration) -> bool {
    let works = !ctx.is_quiet() || ctx.functions.keep_server();
    !works && ctx.activity.idle_for() >= limit
}
