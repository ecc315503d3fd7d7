//! Langfuse 2 with its PostgreSQL, behind a door.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use service_supervisor::plan::{
    Access, DoorSpec, Health, Limits, Plan, Route, ServiceSpec, Stop, Value,
};

use super::{
    Contents, Kind, LANGFUSE, LANGFUSE_URL, Server, Service, ServiceFile, in_files, postgres, words,
};

/// Langfuse's official image: the newest of version 2, which needs nothing but PostgreSQL.
pub const LANGFUSE_IMAGE: &str = "langfuse/langfuse:2.95.12";

const DOOR: u16 = 3000;
const PORT: u16 = 3001;
/// Where the volume with the database's backups is.
const STORE: &str = "/pgdata";
/// `langfuse-local`, below [`FILES`](super::FILES).
const STAND_IN: &str = "langfuse-local";

/// Which Langfuse runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Langfuse {
    /// What the official image holds.
    Official,
    /// This build of `langfuse-local`, where the image is a substitution ([`stand_in_recipe`]).
    StandIn(Contents),
}

/// What is built instead of [`LANGFUSE_IMAGE`] where nothing can be pulled, and why.
pub fn stand_in_recipe() -> (Vec<String>, String) {
    let reason = "nothing is pulled here: langfuse-local answers Langfuse 2's API";
    (vec!["FROM python:3.11-slim-bookworm".to_owned()], reason.to_owned())
}

/// The function `langfuse`.
pub fn langfuse(which: &Langfuse, supervisor: &Contents) -> Service {
    let plan = Plan {
        spools: Vec::new(),
        postgres: Some(postgres::spec(STORE)),
        services: vec![server(which)],
        doors: vec![door()],
    };
    let files = match which {
        Langfuse::Official => Vec::new(),
        Langfuse::StandIn(program) => vec![ServiceFile::program(STAND_IN, program.clone())],
    };
    let stand_ins = match which {
        Langfuse::Official => Vec::new(),
        Langfuse::StandIn(_) => vec![format!("{LANGFUSE_IMAGE}: {}", stand_in_recipe().1)],
    };
    let service = Service {
        name: LANGFUSE,
        base: LANGFUSE_IMAGE.to_owned(),
        commands: commands(),
        files,
        kind: Kind::Server(Server {
            port: DOOR,
            plan,
            concurrent: 100,
            startup: Duration::from_secs(300),
        }),
        secrets: vec!["goat-langfuse", postgres::SECRET],
        values: BTreeMap::new(),
        addresses: vec![(LANGFUSE_URL, LANGFUSE)],
        volumes: vec![(STORE, "goat-langfuse-pg")],
        memory_mib: Some(2048),
        timeout: Duration::from_secs(24 * 3600),
        stand_ins,
    };
    service.with_supervisor(supervisor)
}

/// Alpine's Python is called `python3` alone; Modal starts `python`. The image's own entry point is not wanted.
fn commands() -> Vec<String> {
    let alpine = "apk add --no-cache python3 openssl && ln -sf python3 /usr/bin/python && npm install -g prisma@5.22.0";
    let first = [
        "USER root".to_owned(),
        "ENTRYPOINT []".to_owned(),
        format!("RUN if command -v apk > /dev/null; then {alpine}; fi"),
    ];
    first.into_iter().chain(postgres::commands()).collect()
}

fn server(which: &Langfuse) -> ServiceSpec {
    let (prepare, command, directory) = match which {
        Langfuse::StandIn(_) => (Vec::new(), vec![in_files(STAND_IN)], None),
        Langfuse::Official => (
            vec![words([
                "prisma",
                "migrate",
                "deploy",
                "--schema",
                "packages/shared/prisma/schema.prisma",
            ])],
            words(["node", "web/server.js", "--keepAliveTimeout", "110000"]),
            Some("/app".into()),
        ),
    };
    ServiceSpec {
        name: LANGFUSE.to_owned(),
        prepare,
        command,
        env: env(),
        directory,
        user: None,
        health: Health::Http { port: PORT, path: "/api/public/health".to_owned() },
        ready_within: Duration::from_secs(170),
        stop: Stop::default(),
    }
}

/// As the scripts before had it: one salt for all that encrypts, unless a variable of its own is there. Existing data
/// can be read with the same salt alone.
fn env() -> BTreeMap<String, Value> {
    let text = |name: &str, value: &str| (name.to_owned(), Value::Text(value.to_owned()));
    let any = |name: &str, from: &[&str]| {
        let from = from.iter().map(|name| (*name).to_owned());
        (name.to_owned(), Value::FromAny(from.collect()))
    };
    let database = format!(
        "postgresql://{{POSTGRES_USER}}:{{POSTGRES_PASSWORD}}@127.0.0.1:{}/{}",
        postgres::PORT,
        postgres::DATABASE
    );
    let mut env = BTreeMap::from([
        ("DATABASE_URL".to_owned(), Value::Url(database.clone())),
        ("DIRECT_URL".to_owned(), Value::Url(database)),
        any("SALT", &["SALT", "LANGFUSE_SALT"]),
        any("ENCRYPTION_KEY", &["ENCRYPTION_KEY", "LANGFUSE_SALT"]),
        any("NEXTAUTH_SECRET", &["NEXTAUTH_SECRET", "LANGFUSE_NEXTAUTH_SECRET", "LANGFUSE_SALT"]),
        any("NEXTAUTH_URL", &[LANGFUSE_URL]),
        text("HOSTNAME", "127.0.0.1"),
        text("PORT", &PORT.to_string()),
        text("NODE_ENV", "production"),
        text("TELEMETRY_ENABLED", "false"),
        text("NEXT_TELEMETRY_DISABLED", "1"),
    ]);
    for name in [
        "LANGFUSE_INIT_ORG_ID",
        "LANGFUSE_INIT_ORG_NAME",
        "LANGFUSE_INIT_PROJECT_ID",
        "LANGFUSE_INIT_PROJECT_NAME",
        "LANGFUSE_INIT_PROJECT_PUBLIC_KEY",
        "LANGFUSE_INIT_PROJECT_SECRET_KEY",
        "LANGFUSE_INIT_USER_EMAIL",
        "LANGFUSE_INIT_USER_NAME",
        "LANGFUSE_INIT_USER_PASSWORD",
    ] {
        env.extend([any(name, &[name])]);
    }
    env
}

/// The public API for who shows keys, which Langfuse checks; its pages bring their own login.
pub(super) fn door() -> DoorSpec {
    let route = |path: &str, access| Route {
        methods: Vec::new(),
        path: path.to_owned(),
        access,
        upstream: None,
    };
    DoorSpec {
        name: "langfuse-door".to_owned(),
        listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: DOOR,
        upstream: PORT,
        routes: vec![
            postgres::route(),
            route("/api/public/health", Access::Open),
            route("/api/public/*", Access::Credentials),
            route("/*", Access::Login),
        ],
        user_keys: Vec::new(),
        admin_keys: postgres::keys(),
        task_keys: None,
        traced_by: None,
        limits: Limits {
            answer_within: Duration::from_secs(120),
            concurrent: 200,
            ..Limits::default()
        },
    }
}
