//! Carries a plan out: start in order, watch, stop in reverse.

use std::path::Path;
use std::process::ExitStatus;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::plan::{Plan, ServiceSpec};
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
pub async fn run(
    plan: &Plan,
    environment: &Environment,
    log: &Log,
    stop: &CancellationToken,
) -> Result<()> {
    let said = |error: &Error| log.say(error.chain());
    // What is missing is told before anything runs.
    let (spools, launches, doors) = prepare(plan, environment, log).inspect_err(said)?;
    let mut running = Vec::new();
    for spool in spools {
        running.push(spool.start().await.inspect_err(said)?);
    }
    let mut services = Vec::new();
    let ended = carry_out(plan, &launches, doors, &mut services, log, stop).await.inspect_err(said);
    let killed = stop_all(services, log).await;
    // Last: a service that ends sends its last traces.
    futures::future::join_all(running.into_iter().map(RunningSpool::stop)).await;
    ended?;
    if killed.is_empty() {
        return Ok(());
    }
    Err(Error::Killed { services: killed }).inspect_err(said)
}

fn prepare(
    plan: &Plan,
    environment: &Environment,
    log: &Log,
) -> Result<(Vec<Spool>, Vec<Launch>, Vec<Door>)> {
    plan.check()?;
    let spools = plan.spools.iter().map(|spec| Spool::new(spec, environment, log.clone()));
    let spools = spools.collect::<Result<_>>()?;
    let launches = plan.services.iter().map(|spec| launch(spec, environment, log));
    let launches = launches.collect::<Result<_>>()?;
    let doors = plan.doors.iter().map(|spec| Door::new(spec, environment, log.clone()));
    Ok((spools, launches, doors.collect::<Result<_>>()?))
}

fn launch(spec: &ServiceSpec, environment: &Environment, log: &Log) -> Result<Launch> {
    let env = environment.select(&spec.env, &format!("service `{}`", spec.name))?;
    let user = match &spec.user {
        None => None,
        Some(name) => Some(
            user::find(Path::new(PASSWD), name)
                .ok_or_else(|| Error::NoUser { service: spec.name.clone(), user: name.clone() })?,
        ),
    };
    let (service, directory) = (spec.name.clone(), spec.directory.clone());
    let launcher = std::env::current_exe().map_err(Error::Itself)?;
    Ok(Launch { service, env, directory, user, log: log.clone(), launcher })
}

/// Starts everything and watches it. Services are left running in `services`.
async fn carry_out<'a>(
    plan: &'a Plan,
    launches: &[Launch],
    doors: Vec<Door>,
    services: &mut Vec<Service<'a>>,
    log: &Log,
    stop: &CancellationToken,
) -> Result<()> {
    for (spec, launch) in plan.services.iter().zip(launches) {
        if start(spec, launch, services, log, stop).await? == Started::ToldToStop {
            return Ok(());
        }
    }
    // Only now: a port that is open says that the container is ready.
    let mut open = Vec::new();
    for door in doors {
        open.push(door.open().await?);
    }
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        died = first_end(services) => Err(died),
    };
    // Requests under way need the services.
    if ended.is_ok() {
        log.say("told to stop");
    }
    futures::future::join_all(open.into_iter().map(|door| door.drain(ended.is_ok()))).await;
    ended
}

#[derive(PartialEq, Eq)]
enum Started {
    Ready,
    ToldToStop,
}

/// Starts one service and waits until it is ready, while the ones before it are watched.
async fn start<'a>(
    spec: &'a ServiceSpec,
    launch: &Launch,
    services: &mut Vec<Service<'a>>,
    log: &Log,
    stop: &CancellationToken,
) -> Result<Started> {
    let began = Instant::now();
    let mut last = String::new();
    let mut process = None;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Started::ToldToStop),
        died = first_end(services) => Err(died),
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
