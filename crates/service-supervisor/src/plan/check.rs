//! Mistakes of a plan that can be told before anything starts.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{DoorSpec, Health, Plan, PostgresSpec, ServiceSpec};
use crate::door::path;

pub(super) fn check(plan: &Plan) -> Result<(), String> {
    if plan.services.is_empty() {
        return Err("it has no service".to_owned());
    }
    let mut names = BTreeSet::new();
    if let Some(postgres) = &plan.postgres {
        postgres_is_sound(postgres)
            .map_err(|what| format!("PostgreSQL `{}` {what}", postgres.name))?;
        names.insert(&postgres.name);
    }
    for service in &plan.services {
        service_is_sound(service).map_err(|what| format!("service `{}` {what}", service.name))?;
        if !names.insert(&service.name) {
            return Err(format!("two services are called `{}`", service.name));
        }
    }
    let mut ports = BTreeSet::new();
    for door in &plan.doors {
        door_is_sound(door).map_err(|what| format!("door `{}` {what}", door.name))?;
        if let Some(name) = &door.traced_by
            && !plan.spools.iter().any(|spool| spool.name == *name)
        {
            return Err(format!("door `{}` is traced by `{name}`, which is no spool", door.name));
        }
        if door.port != 0 && !ports.insert(door.port) {
            return Err(format!("two doors listen on port {}", door.port));
        }
    }
    Ok(())
}

fn service_is_sound(service: &ServiceSpec) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if service.name.is_empty() || !service.name.chars().all(is_name) {
        return Err("has a name that is not made of letters, digits, `-` and `_`".to_owned());
    }
    let checks = match &service.health {
        Health::Command(command) => Some(command),
        _ => None,
    };
    let mut commands = service.prepare.iter().chain([&service.command]).chain(checks);
    if commands.any(|command| command.first().is_none_or(String::is_empty)) {
        return Err("has an empty command".to_owned());
    }
    match &service.health {
        Health::Http { path, .. } if !path.starts_with('/') => {
            Err(format!("has the health path `{path}`, which does not begin with `/`"))
        }
        _ => Ok(()),
    }
}

fn postgres_is_sound(postgres: &PostgresSpec) -> Result<(), String> {
    let mut paths = postgres.programs.iter().chain([&postgres.data, &postgres.store]);
    if let Some(path) = paths.find(|path| !path.is_absolute()) {
        return Err(format!("has the path `{}`, which is not absolute", path.display()));
    }
    if postgres.data.starts_with(&postgres.store) {
        return Err("works on the store itself: its data must lie elsewhere".to_owned());
    }
    if postgres.max_loss < Duration::from_secs(2) {
        return Err("can't keep a loss below 2 s".to_owned());
    }
    Ok(())
}

fn door_is_sound(door: &DoorSpec) -> Result<(), String> {
    if door.upstream == 0 || door.upstream == door.port {
        return Err(format!("can't pass requests on to port {}", door.upstream));
    }
    for route in &door.routes {
        if path::Pattern::parse(&route.path).is_none() {
            return Err(format!("has the path `{}`, which is none", route.path));
        }
        let is_method = |method: &String| method.parse::<http::Method>().is_ok();
        if let Some(method) = route.methods.iter().find(|method| !is_method(method)) {
            return Err(format!("has the method `{method}`, which is none"));
        }
    }
    Ok(())
}
