//! PostgreSQL beside the service that needs it.

use std::time::Duration;

use service_supervisor::plan::{Access, LeaseSpec, PostgresSpec, Route};

use super::in_state;

/// Langfuse's database; `POSTGRES_DB` was never its name.
pub(super) const DATABASE: &str = "langfuse";
pub(super) const PORT: u16 = 5432;
/// Who PostgreSQL runs as, in Debian's and Alpine's packages alike.
const USER: &str = "postgres";
/// Where PostgreSQL's programs lie: in Debian's package, in Alpine's.
const PROGRAMS: [&str; 4] =
    ["/usr/lib/postgresql/15/bin", "/usr/libexec/postgresql16", "/usr/local/bin", "/usr/bin"];
/// The Dict that says which container writes.
const LEASE_DICT: &str = "goat-langfuse-lease";
/// The supervisor's own routes.
const CONTROL: u16 = 3002;
/// The variable with the password of the database's role, which also opens those routes.
pub(super) const PASSWORD: &str = "POSTGRES_PASSWORD";
/// The secret with the role and its password.
pub(super) const SECRET: &str = "goat-postgres";

/// Commands that install it, on Alpine or on Debian.
pub(super) fn commands() -> Vec<String> {
    let home = in_state("postgres");
    let debian = "mkdir -p /etc/postgresql-common \
        && echo create_main_cluster=false > /etc/postgresql-common/createcluster.conf \
        && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-15";
    let alpine = "apk add --no-cache postgresql16 postgresql16-client";
    vec![
        format!("RUN if command -v apk > /dev/null; then {alpine}; else {debian}; fi"),
        format!("RUN install -d -o {USER} -g {USER} -m 0700 {home}"),
    ]
}

/// The server on the container's disk, kept on the volume at `store`.
pub(super) fn spec(store: &str) -> PostgresSpec {
    PostgresSpec {
        name: "postgres".to_owned(),
        programs: PROGRAMS.map(Into::into).to_vec(),
        user: Some(USER.to_owned()),
        data: in_state("postgres/data").into(),
        store: store.into(),
        port: PORT,
        database: DATABASE.to_owned(),
        role: "POSTGRES_USER".to_owned(),
        password: PASSWORD.to_owned(),
        control: CONTROL,
        max_loss: Duration::from_secs(60),
        base_every: Duration::from_secs(6 * 3600),
        ready_within: Duration::from_secs(120),
        lease: LeaseSpec {
            directory: None,
            name: Some(LEASE_DICT.to_owned()),
            expires: Duration::from_secs(30),
            wait: Duration::from_secs(60),
        },
    }
}

/// The way to backup, restore, query and dump.
pub(super) fn route() -> Route {
    Route {
        methods: Vec::new(),
        path: "/goat/postgres/*".to_owned(),
        access: Access::Admin,
        upstream: Some(CONTROL),
    }
}

/// What opens that way.
pub(super) fn keys() -> Vec<String> {
    vec![PASSWORD.to_owned()]
}
