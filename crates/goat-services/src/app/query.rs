//! Langfuse's database for who calls a function of Modal: a thin call of its supervisor's route.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Contents, Kind, LANGFUSE, LANGFUSE_QUERY, LANGFUSE_URL, Service, postgres};

/// A Python, and nothing else: the supervisor has all it takes.
const BASE: &str = "python:3.11-slim-bookworm";

/// The function `langfuse_query(sql, dump)`.
pub fn langfuse_query(supervisor: &Contents) -> Service {
    let service = Service {
        name: LANGFUSE_QUERY,
        base: BASE.to_owned(),
        commands: Vec::new(),
        files: Vec::new(),
        kind: Kind::Query,
        secrets: vec![postgres::SECRET],
        values: BTreeMap::new(),
        addresses: vec![(LANGFUSE_URL, LANGFUSE)],
        volumes: Vec::new(),
        memory_mib: None,
        timeout: Duration::from_secs(120),
        stand_ins: Vec::new(),
    };
    service.with_supervisor(supervisor)
}
