//! PostgreSQL beside the service that needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use service_supervisor::plan::{Health, ServiceSpec, Stop, StopSignal, Value};

use super::{in_state, words};

/// Langfuse's database; `POSTGRES_DB` was never its name.
pub(super) const DATABASE: &str = "langfuse";
pub(super) const PORT: u16 = 5432;
/// Who PostgreSQL runs as, in Debian's and Alpine's packages alike.
const USER: &str = "postgres";
/// Where PostgreSQL's programs lie: Debian's package, Alpine's, and what every program needs.
const PATH: &str =
    "/usr/lib/postgresql/15/bin:/usr/libexec/postgresql16:/usr/local/bin:/usr/bin:/bin";

/// Makes the directory whole or not at all: role and database are made without a server that anybody could reach.
///
/// Source: "single-user mode", <https://www.postgresql.org/docs/15/app-postgres.html>, read 2026-11-26.
const INIT: &str = r#"set -eu
data="$PGDATA"
[ -s "$data/PG_VERSION" ] && exit 0
rm -rf "$data.new"
initdb --pgdata "$data.new" --username postgres --encoding UTF8 --locale C.UTF-8 --auth-local peer --auth-host scram-sha-256 > /dev/null
password=$(printf %s "$POSTGRES_PASSWORD" | sed "s/'/''/g")
postgres --single -D "$data.new" postgres > /dev/null <<SQL
CREATE ROLE "$POSTGRES_USER" LOGIN PASSWORD '$password'
CREATE DATABASE langfuse OWNER "$POSTGRES_USER"
SQL
mv "$data.new" "$data"
"#;

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

/// The server, over loopback alone.
pub(super) fn service() -> ServiceSpec {
    let (home, data) = (in_state("postgres"), in_state("postgres/data"));
    let listen = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={PORT}"),
        format!("unix_socket_directories={home}"),
        // Debian's package has its configuration elsewhere; nothing of it is wanted.
        "log_timezone=UTC".to_owned(),
        "timezone=UTC".to_owned(),
    ];
    let settings = listen.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
    let command = words(["postgres", "-D", &data]).into_iter().chain(settings).collect();
    let from = |name: &str| (name.to_owned(), Value::From(name.to_owned()));
    let env = BTreeMap::from([
        ("PATH".to_owned(), Value::Text(PATH.to_owned())),
        ("PGDATA".to_owned(), Value::Text(data)),
        from("POSTGRES_USER"),
        from("POSTGRES_PASSWORD"),
    ]);
    ServiceSpec {
        name: "postgres".to_owned(),
        prepare: vec![words(["sh", "-c", INIT])],
        command,
        env,
        directory: Some(home.clone().into()),
        user: Some(USER.to_owned()),
        health: Health::Command(words(["pg_isready", "-q", "-h", "127.0.0.1"])),
        ready_within: Duration::from_secs(120),
        stop: Stop { signal: StopSignal::Int, within: Duration::from_secs(15) },
    }
}
