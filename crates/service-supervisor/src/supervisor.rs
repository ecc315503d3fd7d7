//! Carries a plan out: start in order, watch, stop in reverse.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::{DoorSpec, Plan, ServiceSpec};
use crate::postgres::{Guard, Register};
use crate::process::{Launch, Process};
use crate::spool::{RunningSpool, Spool};
use crate::{health, user};

/// Where the users of a container are listed.
const PASSWD: &str = "/etc/passwd";

/// A service that runs, and how it is stopped.
struct Service<'a> {
    spec: &'a ServiceSpec,
    process: Process,
}

/// Carries out `plan` until `stop` is cancelled or something ends by itself, then stops all of it.
///
/// # Errors
///
/// What ended it: a service that died, was not ready in time or could not start. After an orderly end,
/// [`Error::Killed`] if a service did not end within its time. Everything is stopped on every path, and
/// the log has the error already: before what it led to.
///
/// `register` is where containers see who writes to the plan's PostgreSQL, if it has one whose lease names no
/// directory.
pub async fn run(
    plan: &Plan,
    environment: &Environment,
    log: &Log,
    stop: &CancellationToken,
    register: Option<Arc<dyn Register>>,
) -> Result<()> {
    while run_once(plan, environment, log, stop, register.clone()).await? == Ended::Again {
        log.say("starts anew");
    }
    Ok(())
}

/// How an orderly end came about.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Told,
    /// To start anew, from another state.
    Again,
}

async fn run_once(
    plan: &Plan,
    environment: &Environment,
    log: &Log,
    stop: &CancellationToken,
    register: Option<Arc<dyn Register>>,
) -> Result<Ended> {
    let said = |error: &Error| log.say(error.chain());
    // What is missing is told before anything runs.
    let Prepared { spools, mut guard, launches, doors } =
        prepare(plan, environment, log, register).inspect_err(said)?;
    let mut running = Vec::new();
    for spool in spools {
        running.push(spool.start().await.inspect_err(said)?);
    }
    let server = guard.as_ref().map(|guard| guard.service().clone());
    let mut services = Vec::new();
    let ended = match take(&mut guard, server.as_ref(), &mut services, log, stop).await {
        Ok(None) => {
            carry_out(plan, &launches, doors, guard.as_ref(), &mut services, log, stop).await
        }
        Ok(Some(ended)) => Ok(ended),
        Err(error) => Err(error),
    };
    let ended = ended.inspect_err(said);
    let killed = stop_all(services, log).await;
    if let Some(guard) = guard {
        guard.close(stop.is_cancelled()).await;
    }
    // Last: a service that ends sends its last traces.
    futures::future::join_all(running.into_iter().map(RunningSpool::stop)).await;
    let ended = ended?;
    if killed.is_empty() {
        return Ok(ended);
    }
    Err(Error::Killed { services: killed }).inspect_err(said)
}

/// All that is made before anything runs.
struct Prepared {
    spools: Vec<Spool>,
    guard: Option<Guard>,
    launches: Vec<Launch>,
    doors: Vec<Door>,
}

fn prepare(
    plan: &Plan,
    environment: &Environment,
    log: &Log,
    register: Option<Arc<dyn Register>>,
) -> Result<Prepared> {
    plan.check()?;
    let guard = plan.postgres.as_ref().map(|spec| {
        let launch = launch_as(&spec.name, spec.user.as_deref(), environment, log)?;
        Guard::new(spec, environment, launch, register)
    });
    let spools = plan.spools.iter().map(|spec| Spool::new(spec, environment, log.clone()));
    let spools = spools.collect::<Result<Vec<_>>>()?;
    let launches = plan.services.iter().map(|spec| launch(spec, environment, log));
    let launches = launches.collect::<Result<_>>()?;
    let calls = |spec: &DoorSpec| {
        let mut spools = plan.spools.iter().zip(&spools);
        let (_, spool) = spools.find(|(spool, _)| Some(&spool.name) == spec.traced_by.as_ref())?;
        Some(Spool::calls(spool))
    };
    let doors =
        plan.doors.iter().map(|spec| Door::new(spec, environment, calls(spec), log.clone()));
    let doors = doors.collect::<Result<_>>()?;
    Ok(Prepared { spools, guard: guard.transpose()?, launches, doors })
}

fn launch(spec: &ServiceSpec, environment: &Environment, log: &Log) -> Result<Launch> {
    let env = environment.select(&spec.env, &format!("service `{}`", spec.name))?;
    let launch = launch_as(&spec.name, spec.user.as_deref(), environment, log)?;
    Ok(Launch { env, directory: spec.directory.clone(), ..launch })
}

/// For a program that sees no variable of the plan.
fn launch_as(
    service: &str,
    user: Option<&str>,
    environment: &Environment,
    log: &Log,
) -> Result<Launch> {
    let no_user = |name: &str| Error::NoUser { service: service.to_owned(), user: name.to_owned() };
    let find = |name| user::find(Path::new(PASSWD), name).ok_or_else(|| no_user(name));
    let user = user.map(find).transpose()?;
    let env = environment.select(&BTreeMap::new(), service)?;
    let launcher = std::env::current_exe().map_err(Error::Itself)?;
    let service = service.to_owned();
    Ok(Launch { service, env, directory: None, user, log: log.clone(), launcher })
}

/// Brings PostgreSQL up, where the plan has one. Answers an end that came before it was.
async fn take<'a>(
    guard: &mut Option<Guard>,
    server: Option<&'a ServiceSpec>,
    services: &mut Vec<Service<'a>>,
    log: &Log,
    stop: &CancellationToken,
) -> Result<Option<Ended>> {
    let (Some(guard), Some(server)) = (guard, server) else { return Ok(None) };
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Some(Ended::Told)),
        taken = guard.take() => taken?,
    }
    let launch = guard.launch().clone();
    if let Started::Ended(ended) = start(server, &launch, Some(guard), services, log, stop).await? {
        return Ok(Some(ended));
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Some(Ended::Told)),
        died = first_end(services) => Err(died),
        opened = guard.open() => opened.map(|()| None),
    }
}

/// Waits until the guard wants an end; without one, for ever.
async fn wanted(guard: Option<&Guard>) -> Result<Ended> {
    match guard {
        Some(guard) => guard.ended().await.map(|()| Ended::Again),
        None => std::future::pending().await,
    }
}

/// Starts everything and watches it. Services are left running in `services`.
async fn carry_out<'a>(
    plan: &'a Plan,
    launches: &[Launch],
    doors: Vec<Door>,
    guard: Option<&Guard>,
    services: &mut Vec<Service<'a>>,
    log: &Log,
    stop: &CancellationToken,
) -> Result<Ended> {
    for (spec, launch) in plan.services.iter().zip(launches) {
        if let Started::Ended(ended) = start(spec, launch, guard, services, log, stop).await? {
            return Ok(ended);
        }
    }
    // Only now: a port that is open says that the container is ready.
    let mut open = Vec::new();
    for door in doors {
        open.push(door.open().await?);
    }
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Ended::Told),
        died = first_end(services) => Err(died),
        ended = wanted(guard) => ended,
    };
    // Requests under way need the services.
    if let Ok(Ended::Told) = ended {
        log.say("told to stop");
    }
    futures::future::join_all(open.into_iter().map(|door| door.drain(ended.is_ok()))).await;
    ended
}

#[derive(PartialEq, Eq)]
enum Started {
    Ready,
    Ended(Ended),
}

/// Starts one service and waits until it is ready, while the ones before it are watched.
async fn start<'a>(
    spec: &'a ServiceSpec,
    launch: &Launch,
    guard: Option<&Guard>,
    services: &mut Vec<Service<'a>>,
    log: &Log,
    stop: &CancellationToken,
) -> Result<Started> {
    let began = Instant::now();
    let mut last = String::new();
    let mut process = None;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Started::Ended(Ended::Told)),
        died = first_end(services) => Err(died),
        ended = wanted(guard) => ended.map(Started::Ended),
        ready = bring_up(spec, launch, &mut process, &mut last) => ready.map(|()| Started::Ready),
        () = tokio::time::sleep(spec.ready_within) => Err(Error::NotReady {
            service: spec.name.clone(),
            within: spec.ready_within,
            last: String::new(),
        }),
    };
    services.extend(process.map(|process| Service { spec, process }));
    match ended {
        Ok(Started::Ready) => {
            log.say(format!("{} is ready after {:.1} s", spec.name, began.elapsed().as_secs_f64()));
            Ok(Started::Ready)
        }
        Err(Error::NotReady { service, within, .. }) => {
            Err(Error::NotReady { service, within, last })
        }
        other => other,
    }
}

/// Prepares, starts and looks. The process is given out at once, so that it outlives this future.
async fn bring_up(
    spec: &ServiceSpec,
    launch: &Launch,
    process: &mut Option<Process>,
    last: &mut String,
) -> Result<()> {
    for command in &spec.prepare {
        *last = format!("its preparation `{}` still runs", command.join(" "));
        let status = launch.start(command)?.wait().await?;
        if !status.success() {
            let (service, program) = (spec.name.clone(), command.join(" "));
            return Err(Error::Prepare { service, program, status });
        }
    }
    let process = process.insert(launch.start(&spec.command)?);
    tokio::select! {
        biased;
        status = process.wait() => Err(died(&spec.name, status)),
        ready = health::ready(&spec.health, launch, last) => ready,
    }
}

/// The first service that ends by itself; without services, never.
async fn first_end(services: &mut [Service<'_>]) -> Error {
    let mut ends: FuturesUnordered<_> = services
        .iter_mut()
        .map(|service| async {
            let status = service.process.wait().await;
            died(service.process.service(), status)
        })
        .collect();
    match ends.next().await {
        Some(error) => error,
        None => std::future::pending().await,
    }
}

fn died(service: &str, status: Result<ExitStatus>) -> Error {
    match status {
        Ok(status) => Error::Died { service: service.to_owned(), status },
        Err(error) => error,
    }
}

/// Stops services, the last started first. Answers the names of those that had to be killed.
async fn stop_all(services: Vec<Service<'_>>, log: &Log) -> Vec<String> {
    let mut killed = Vec::new();
    for Service { spec, mut process } in services.into_iter().rev() {
        if process.stop(&spec.stop).await {
            log.say(format!("{} was killed after {} s", spec.name, spec.stop.within.as_secs_f64()));
            killed.push(spec.name.clone());
        } else {
            log.say(format!("{} has ended", spec.name));
        }
    }
    killed
}
