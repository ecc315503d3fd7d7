//! A PostgreSQL whose data outlives its container.
//!
//! The server works on the container's own disk; a volume is no place for it, since it is committed now and then and
//! seen by others in between. What outlives the container is a base backup and the WAL since then, in a directory on
//! the volume. A start takes the lease, so that nobody else writes, restores the newest state, makes the roles, and
//! only then lets other services start. WAL is handed over often enough that the loss of the container costs no more
//! than [`PostgresSpec::max_loss`](crate::plan::PostgresSpec::max_loss); an orderly end, and the end of the server
//! alone, cost nothing.
//!
//! Who loses the lease ends everything at once, and its WAL is not taken any more. Routes on loopback, behind the
//! database's password, make base backups, go back to an older state, answer queries and dump.

mod backup;
mod cluster;
mod control;
mod error;
mod lease;
mod origin;
mod query;
mod register;
mod roles;
mod store;
mod wal;

use std::sync::Arc;

use secret_string::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::backup::Backups;
use self::cluster::Cluster;
use self::control::Control;
pub use self::error::PostgresError;
use self::error::Result;
use self::lease::Lease;
pub use self::lease::{OpenRegister, Register, RegisterError};
use self::origin::Origin;
pub use self::wal::{archive, fetch};
use crate::environment::Environment;
use crate::error::chain;
use crate::log::Log;
use crate::plan::{PostgresSpec, ServiceSpec};
use crate::process::Launch;

/// Why everything is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Another may hold the lease from now on.
    Lost(String),
    /// An older state is to be restored: by starting anew.
    Restore,
}

/// Sees to a PostgreSQL.
pub(crate) struct Guard {
    cluster: Arc<Cluster>,
    service: ServiceSpec,
    role: SecretString,
    password: SecretString,
    holder: String,
    register: Arc<dyn Register>,
    log: Log,
    end: watch::Sender<Option<End>>,
    lease: Option<Arc<Lease>>,
    origin: Option<Origin>,
    is_open: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Guard {
    pub(crate) fn new(
        spec: &PostgresSpec,
        environment: &Environment,
        launch: Launch,
        register: Option<Arc<dyn Register>>,
    ) -> Result<Self, crate::Error> {
        let wanted_by = format!("PostgreSQL `{}`", spec.name);
        let role = environment.need(&spec.role, &wanted_by)?.clone();
        let password = environment.need(&spec.password, &wanted_by)?.clone();
        let register = match (&spec.lease.directory, register) {
            (Some(path), _) => register::Directory::open(path.clone())
                .map(|it| Arc::new(it) as Arc<dyn Register>)
                .map_err(PostgresError::file("use", path))
                .map_err(|error| failed(spec, error))?,
            (None, Some(register)) => register,
            (None, None) => {
                return Err(crate::Error::Plan(format!("{wanted_by} has no register of leases")));
            }
        };
        let (holder, log) = (lease::new_holder(), launch.log.clone());
        let cluster = Cluster::new(spec, launch, holder.clone());
        let service = cluster.service();
        let (end, _) = watch::channel(None);
        let cluster = Arc::new(cluster);
        let (lease, origin, is_open, tasks) = (None, None, false, Vec::new());
        Ok(Self {
            cluster,
            service,
            role,
            password,
            holder,
            register,
            log,
            end,
            lease,
            origin,
            is_open,
            tasks,
        })
    }

    /// The server, to be started after [`Guard::take`].
    pub(crate) fn service(&self) -> &ServiceSpec {
        &self.service
    }

    pub(crate) fn launch(&self) -> &Launch {
        &self.cluster.launch
    }

    /// Takes the lease and makes the server's directory what it should be.
    pub(crate) async fn take(&mut self) -> Result<(), crate::Error> {
        let lease = self.acquire().await.map_err(|error| self.failed(error))?;
        self.say(&format!("holds lease {}", lease.epoch()));
        let lease = Arc::new(lease);
        self.lease = Some(Arc::clone(&lease));
        let end = self.end.clone();
        // From the first moment on: a restore may take longer than the lease lives.
        self.tasks.push(tokio::spawn(async move {
            let why = lease.keep().await;
            end.send_replace(Some(End::Lost(why)));
        }));
        let mut lost = self.end.subscribe();
        let prepared = tokio::select! {
            prepared = origin::prepare(&self.cluster, &self.holder) => prepared,
            _ = lost.wait_for(Option::is_some) => Err(PostgresError::LeaseLost("restoring".into())),
        };
        let origin = prepared.map_err(|error| self.failed(error))?;
        self.say(&origin.words());
        self.origin = Some(origin);
        Ok(())
    }

    async fn acquire(&self) -> Result<Lease> {
        let spec = &self.cluster.spec.lease;
        let register = Arc::clone(&self.register);
        let lease = Lease::acquire(register, &self.holder, spec.expires, spec.wait).await;
        let lease = lease.map_err(PostgresError::Register)?;
        lease.ok_or(PostgresError::LeaseHeld(spec.wait.as_secs()))
    }

    /// When the server answers: makes roles and database, sees to a base backup, opens the control routes.
    pub(crate) async fn open(&mut self) -> Result<(), crate::Error> {
        self.settle().await.map_err(|error| self.failed(error))
    }

    async fn settle(&mut self) -> Result<()> {
        let cluster = &self.cluster;
        roles::settle(cluster, self.role.expose(), &self.password).await?;
        let Some(origin) = &self.origin else { return Ok(()) };
        if matches!(origin, Origin::Earlier(_)) {
            roles::reindex(cluster).await?;
        }
        let backups = Arc::new(Backups::new(&self.holder));
        // Without one of this state, a loss of the container would be a loss of all, or of what was restored.
        if origin.needs_base() || cluster.store.bases()?.is_empty() {
            let made = backups.make(cluster).await?;
            self.log.say(format!("{}: base backup {} is made", cluster.spec.name, made.base));
        }
        cluster.store.forget_wish()?;
        origin::mark(cluster, &self.holder)?;
        let port = cluster.spec.control;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(PostgresError::file("listen for", "/goat/postgres"))?;
        let control = Control {
            cluster: Arc::clone(cluster),
            backups: Arc::clone(&backups),
            password: self.password.clone(),
            end: self.end.clone(),
            log: self.log.clone(),
            epoch: self.lease.as_ref().map_or(0, |lease| lease.epoch()),
            origin: origin.words(),
            started_at: jiff::Timestamp::now(),
        };
        self.tasks.push(tokio::spawn(control.serve(listener)));
        let (cluster, log) = (Arc::clone(cluster), self.log.clone());
        self.tasks.push(tokio::spawn(async move { backups.keep_making(&cluster, &log).await }));
        self.is_open = true;
        Ok(())
    }

    /// Waits until everything is to end: `Ok` to start anew.
    pub(crate) async fn ended(&self) -> Result<(), crate::Error> {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
        match ended.ok().flatten() {
            Some(End::Lost(why)) => Err(self.failed(PostgresError::LeaseLost(why))),
            Some(End::Restore) => Ok(()),
            None => std::future::pending().await,
        }
    }

    /// After the server has ended, however: hands over what it has left, and lets the next one go on.
    pub(crate) async fn close(mut self, is_told: bool) {
        let lost = matches!(&*self.end.borrow(), Some(End::Lost(_)));
        if let (Some(origin), false) = (&self.origin, lost) {
            if origin.is_wish() && !self.is_open && !is_told {
                // Or every start would fail at it.
                self.say(
                    "can't be restored as asked: the next start goes on from the newest state",
                );
                self.report(self.cluster.store.forget_wish());
            } else {
                self.report(self.cluster.salvage().await);
            }
        }
        // Only now: nobody else may write while the rest is handed over.
        self.tasks.drain(..).for_each(|task| task.abort());
        if let (Some(lease), false) = (&self.lease, lost)
            && let Err(error) = lease.release().await
        {
            self.say(&format!("the lease can't be given back and will expire: {error}"));
        }
    }

    fn report(&self, done: Result<()>) {
        if let Err(error) = done {
            self.say(&chain(&error));
        }
    }

    fn say(&self, words: &str) {
        self.log.say(format!("{}: {words}", self.cluster.spec.name));
    }

    fn failed(&self, error: PostgresError) -> crate::Error {
        failed(&self.cluster.spec, error)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

fn failed(spec: &PostgresSpec, source: PostgresError) -> crate::Error {
    crate::Error::Postgres { name: spec.name.clone(), source: Box::new(source) }
}
