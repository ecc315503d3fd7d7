//! Functions: programs of a client that run here when they are called.
//!
//! ```text
//! FunctionMap ─▶ call ─ inputs ─▶ pool of the function ─ scaling ─▶ container ─ modal._container_entrypoint
//!                  ▲                     │                               │
//!                  └──── outputs ◀───────┴────── FunctionPutOutputs ◀────┘  over a socket that only it has
//! ```
//!
//! What a function is lies in [`records`] and [`definition`], which deployment uses which definition
//! in [`deployment`]. A call and its inputs are records ([`calls`]): what was acknowledged is done
//! also after the server was killed. Each function that is called or kept warm has a [`pool`], which
//! holds its queue and its containers and follows [`scaling`]; [`keeper`] acts for it. [`container`]
//! makes a container and watches over it. Requests of the web ([`crate::web`]) are inputs, too, whose
//! messages pass through an [`exchange`].

pub(crate) mod calls;
pub(crate) mod container;
pub(crate) mod definition;
pub(crate) mod deployment;
pub(crate) mod exchange;
pub(crate) mod handle;
pub(crate) mod history;
mod keeper;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod package;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod records;
pub(crate) mod references;
pub(crate) mod scaling;
pub(crate) mod schedule;
pub(crate) mod standalone;
pub(crate) mod task;
pub(crate) mod tasks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use modal_proto::client::FunctionOptions;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use self::calls::{Calls, Input};
use self::definition::FunctionSpec;
use self::deployment::Deployments;
use self::exchange::Exchanges;
use self::history::History;
pub(crate) use self::keeper::end_if_deaf;
use self::pool::Pool;
use self::records::{FunctionRecord, FunctionRecords};
use self::task::{Stop, Task};
use self::tasks::TaskRecords;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, FunctionId, TaskId};
use crate::state::State;

/// How long containers may take to end when their app is stopped.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// The functions of this server.
pub(crate) struct Functions {
    pub(crate) records: FunctionRecords,
    pub(crate) deployments: Deployments,
    pub(crate) calls: Calls,
    pub(crate) history: History,
    pub(crate) exchanges: Exchanges,
    pub(crate) tasks: TaskRecords,
    /// Rings when there may be other schedules.
    pub(crate) scheduled: Notify,
    pools: Mutex<HashMap<FunctionId, Arc<Pool>>>,
    live: Mutex<HashMap<TaskId, Arc<Pool>>>,
}

impl Functions {
    /// Opens the records; the containers of an earlier server get an end.
    pub(crate) async fn open(state: &State) -> Result<Self> {
        Ok(Self {
            records: FunctionRecords::new(state.db.clone()),
            deployments: Deployments::new(state.db.clone()),
            calls: Calls::new(state.db.clone()),
            history: History::new(state.db.clone()),
            exchanges: Exchanges::default(),
            tasks: TaskRecords::open(state.db.clone()).await?,
            scheduled: Notify::new(),
            pools: Mutex::default(),
            live: Mutex::default(),
        })
    }

    /// Takes up what an earlier server left: inputs without an end, containers to keep warm, schedules.
    pub(crate) async fn resume(&self, ctx: &Ctx) -> Result<()> {
        for input in self.calls.pending().await? {
            let input = Arc::new(input);
            if let Err(error) = self.submit(ctx, Arc::clone(&input)).await {
                tracing::info!(%error, input = %input.id, "an input of an earlier server is not taken up");
                outcome::give_up(ctx, vec![input], &outcome::cancelled()).await;
            }
        }
        for app in ctx.apps.deployed().await? {
            self.published(ctx, &app, false).await?;
        }
        tokio::spawn(schedule::run(ctx.clone()));
        Ok(())
    }

    /// The pool of a function that may be called; made if there is none.
    pub(crate) async fn pool(&self, ctx: &Ctx, id: &FunctionId) -> Result<Arc<Pool>> {
        if let Some(pool) = self.find_pool(id) {
            return Ok(pool);
        }
        let spec = self.spec(id).await?;
        ctx.apps.get_running(&spec.app).await?;
        let mut pools = self.pools();
        if let Some(pool) = pools.get(id) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(Arc::new(spec)));
        pools.insert(id.clone(), Arc::clone(&pool));
        keeper::spawn(ctx, &pool);
        Ok(pool)
    }

    /// A function as it is run now.
    pub(crate) async fn spec(&self, id: &FunctionId) -> Result<FunctionSpec> {
        let record = self.records.get(id).await?;
        let definition = match (&record.definition, &record.base) {
            (Some(definition), _) => Some(definition.clone()),
            (None, Some(base)) => self.records.get(base).await?.definition,
            (None, None) => None,
        };
        let definition = definition.ok_or_else(|| {
            Error::Precondition(format!("function `{}` is not deployed", record.name))
        })?;
        let data = self.records.definition(&definition).await?;
        FunctionSpec::new(&record, definition, &data)
    }

    /// A function with parameters and other options: the same ones give the same variant.
    pub(crate) async fn variant(
        &self,
        base: &FunctionRecord,
        serialized_params: &[u8],
        options: &FunctionOptions,
    ) -> Result<FunctionRecord> {
        let mut hash = Sha256::new();
        hash.update((serialized_params.len() as u64).to_le_bytes());
        hash.update(serialized_params);
        hash.update(options.encode_to_vec());
        let hash = hex::encode(hash.finalize());
        self.records.variant(base, serialized_params, options, &hash).await
    }

    /// Queues an input.
    pub(crate) async fn submit(&self, ctx: &Ctx, input: Arc<Input>) -> Result<()> {
        let pool = self.pool(ctx, &input.function).await?;
        if pool.enqueue(input) {
            return Ok(());
        }
        Err(Error::Precondition(format!("app `{}` is stopped", pool.app)))
    }

    /// Brings what runs in line with the app's current deployment. `replaced`: containers give way
    /// to new ones even where nothing changed.
    pub(crate) async fn published(&self, ctx: &Ctx, app: &AppId, replaced: bool) -> Result<()> {
        let layout = self.deployments.current(app).await?.map(|it| it.layout).unwrap_or_default();
        let is_part = |id: &FunctionId| layout.functions.values().any(|part| part == id.as_str());
        for record in self.records.of_app(app).await? {
            if !is_part(record.base.as_ref().unwrap_or(&record.id)) {
                self.retire(ctx, &record.id).await;
                continue;
            }
            let Ok(spec) = self.spec(&record.id).await else { continue };
            let kept_warm = spec.scaling.min > 0;
            if let Some(pool) = self.find_pool(&record.id) {
                pool.redefine(Arc::new(spec), replaced);
            } else if kept_warm {
                self.pool(ctx, &record.id).await?;
            }
        }
        ctx.web.serve_app(ctx, app).await?;
        self.scheduled.notify_one();
        Ok(())
    }

    /// Ends what runs of a function that is no part of its app any more; it finishes what it has.
    async fn retire(&self, ctx: &Ctx, id: &FunctionId) {
        ctx.web.close_function(id);
        let Some(pool) = self.find_pool(id) else { return };
        outcome::give_up(ctx, pool.close(Stop::Drain), &outcome::cancelled()).await;
    }

    /// Ends what runs of an app, its inputs included, and waits for it.
    pub(crate) async fn stop_app(&self, ctx: &Ctx, app: &AppId) {
        ctx.web.close_app(app);
        let pools: Vec<_> =
            self.pools().values().filter(|pool| pool.app == *app).cloned().collect();
        for pool in &pools {
            for task in pool.tasks() {
                for running in task.running() {
                    task.interrupt(&running.input.id, task::Interruption::Cancelled);
                }
            }
            let waiting = pool.close(Stop::Interrupt);
            outcome::give_up(ctx, waiting, &outcome::cancelled()).await;
        }
        wait_for_end(&pools).await;
    }

    /// Ends all containers without a word about their inputs: they are begun anew by the next server.
    pub(crate) async fn shutdown(&self) {
        let pools: Vec<_> = self.pools().values().cloned().collect();
        for pool in &pools {
            pool.close(Stop::Kill);
            for task in pool.tasks() {
                task.request_stop(Stop::Kill);
            }
        }
        wait_for_end(&pools).await;
    }

    /// How many containers there are, or are being made.
    pub(crate) fn running(&self) -> usize {
        self.live().len()
    }

    /// How many of an app.
    pub(crate) fn running_in(&self, app: &AppId) -> usize {
        self.live().values().filter(|pool| pool.app == *app).count()
    }

    /// Whether inputs of an app wait or are worked on.
    pub(crate) fn is_busy_in(&self, app: &AppId) -> bool {
        let has_inputs = |pool: &Arc<Pool>| pool.load().queued > 0 || pool.load().running > 0;
        self.pools().values().any(|pool| pool.app == *app && has_inputs(pool))
    }

    /// Whether the server is to stay for them: something runs, waits or is kept warm.
    pub(crate) fn keep_server(&self) -> bool {
        self.pools().values().any(|pool| pool.is_busy() || pool.spec().scaling.min > 0)
    }

    /// A live container and the pool it belongs to.
    pub(crate) fn find_task(&self, id: &TaskId) -> Option<(Arc<Pool>, Arc<Task>)> {
        let pool = self.live().get(id).cloned()?;
        let task = pool.task(id)?;
        Some((pool, task))
    }

    /// All live containers.
    pub(crate) fn live_tasks(&self) -> Vec<Arc<Task>> {
        let live: Vec<(TaskId, Arc<Pool>)> =
            self.live().iter().map(|(id, pool)| (id.clone(), Arc::clone(pool))).collect();
        live.into_iter().filter_map(|(id, pool)| pool.task(&id)).collect()
    }

    pub(crate) fn find_pool(&self, id: &FunctionId) -> Option<Arc<Pool>> {
        self.pools().get(id).cloned()
    }

    fn enter(&self, task: &Task, pool: &Arc<Pool>) {
        self.live().insert(task.id.clone(), Arc::clone(pool));
    }

    fn leave(&self, task: &Task) {
        self.live().remove(&task.id);
    }

    fn forget(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools();
        if pools.get(&pool.function).is_some_and(|known| Arc::ptr_eq(known, pool)) {
            pools.remove(&pool.function);
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<FunctionId, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Pool>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_for_end(pools: &[Arc<Pool>]) {
    let ended = async {
        while pools.iter().any(|pool| !pool.tasks().is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
        for pool in pools {
            pool.tasks().iter().for_each(|task| task.request_stop(Stop::Kill));
        }
        tracing::warn!("containers took too long to end and are killed");
    }
}
