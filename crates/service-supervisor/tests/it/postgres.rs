//! A real PostgreSQL whose container is lost again and again.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Supervisor, idle};

const PASSWORD: &str = "it's a \\ secret/7c31";
const KEYS: [(&str, &str); 2] = [("PG_ROLE", "goat"), ("PG_PASSWORD", PASSWORD)];
/// What the loss of a container may cost here, in seconds.
const MAX_LOSS: u64 = 4;
/// Longer than any look here takes, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

/// What outlives containers, and the ports that all of them have.
struct Scene {
    outlives: TempDir,
    port: u16,
    control: u16,
}

/// A container: its disk, and the supervisor in it.
struct Container {
    disk: TempDir,
    supervisor: Supervisor,
}

/// A directory that the user of the server may pass through.
fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("goat-pg-").tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where PostgreSQL's programs lie; Debian does not put them on the PATH.
fn programs() -> PathBuf {
    let debian =
        (13..=18).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = debian.chain(std::env::split_paths(&path));
    places.find(|place| place.join("initdb").is_file()).expect("install Debian's `postgresql`")
}

impl Scene {
    fn new() -> Self {
        Self { outlives: directory(), port: free_port(), control: free_port() }
    }

    fn store(&self) -> PathBuf {
        self.outlives.path().join("store")
    }

    fn plan(&self, disk: &Path, wait: u64) -> Value {
        let root = rustix::process::geteuid().is_root();
        json!({
            "postgres": {
                "name": "postgres",
                "programs": [programs()],
                "user": root.then_some("postgres"),
                "data": disk.join("data"),
                "store": self.store(),
                "port": self.port,
                "database": "langfuse",
                "role": "PG_ROLE",
                "password": "PG_PASSWORD",
                "control": self.control,
                "max_loss": MAX_LOSS,
                "ready_within": 120,
                "lease": { "directory": self.outlives.path().join("lease"), "expires": 3, "wait": wait },
            },
            "services": [idle()],
        })
    }

    fn start(&self) -> Container {
        self.start_on(directory())
    }

    fn start_on(&self, disk: TempDir) -> Container {
        self.start_with(disk, 60)
    }

    fn start_with(&self, disk: TempDir, wait: u64) -> Container {
        fs::create_dir_all(self.store()).unwrap();
        let supervisor = Supervisor::start(&self.plan(disk.path(), wait), &KEYS);
        Container { disk, supervisor }
    }

    async fn ready(&self) -> Container {
        let mut container = self.start();
        container.supervisor.line("idle is ready").await;
        container
    }

    async fn connect(&self) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("goat")
            .password(PASSWORD)
            .database("langfuse")
            .disable_statement_logging();
        PgConnection::connect_with(&options).await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Numbers of the rows, which must be all from 1 on, and the time of the last.
    async fn rows(&self) -> (i64, Option<f64>) {
        let asked = "SELECT count(*), max(number), max(extract(epoch from at))::float8 FROM rows";
        let mut connection = self.connect().await;
        let row = sqlx::query(asked).fetch_one(&mut connection).await.unwrap();
        let (count, last) = (row.get::<i64, _>(0), row.get::<Option<i64>, _>(1));
        assert_eq!(count, last.unwrap_or(0), "there are holes");
        (count, row.get(2))
    }

    /// Answers status and body of a control route.
    async fn ask(&self, line: &str, key: &str, body: &str) -> (u16, String) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.control));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.0\r\nHost: d\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn query(&self, sql: &str) -> (u16, Value) {
        let body = json!({ "sql": sql }).to_string();
        let (status, text) = self.ask("POST /goat/postgres/query", PASSWORD, &body).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    /// Segments of WAL in the archive.
    fn archived(&self) -> usize {
        fs::read_dir(self.store().join("wal")).unwrap().count()
    }
}

const TABLE: &str =
    "CREATE TABLE rows (number bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())";

impl Container {
    /// Nothing of it is left but what outlives it.
    async fn lose(mut self) {
        self.supervisor.signal(Signal::KILL);
        self.supervisor.gone().await;
        let pid = self.disk.path().join("data/postmaster.pid");
        // It may not have come so far.
        let text = fs::read_to_string(pid).unwrap_or_default();
        if let Some(pid) = text.lines().next() {
            until("the server is gone", || !crate::harness::is_alive(pid)).await;
        }
    }

    /// Told to stop.
    async fn stop(mut self) -> String {
        self.supervisor.signal(Signal::TERM);
        assert_eq!(self.supervisor.end().await, 0, "{}", self.supervisor.text());
        self.supervisor.text()
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes numbered rows until its server is gone, from the first that is not there.
async fn write(scene: &Scene, from: i64) {
    let mut connection = scene.connect().await;
    for number in from.. {
        let insert = sqlx::query("INSERT INTO rows VALUES ($1)").bind(number);
        if insert.execute(&mut connection).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_container_that_is_lost_costs_no_more_than_was_said() {
    let scene = Scene::new();
    let container = scene.ready().await;
    scene.execute(TABLE).await;
    let before = scene.archived();
    let lost_at = {
        let writing = write(&scene, 1);
        tokio::pin!(writing);
        let twice = until("WAL was archived twice", || scene.archived() >= before + 2);
        tokio::select! {
            () = &mut writing => panic!("the server went away"),
            () = twice => {}
        }
        // Somewhere between two segments.
        let more = tokio::time::sleep(Duration::from_millis(1300));
        tokio::select! {
            () = &mut writing => panic!("the server went away"),
            () = more => {}
        }
        Timestamp::now().as_duration().as_secs_f64()
    };
    container.lose().await;

    // Killed at every step of a start, on a disk of its own each time.
    for step in ["holds lease", "is restored from", "postgres is ready"] {
        let mut container = scene.start();
        container.supervisor.line(step).await;
        container.lose().await;
    }
    let container = scene.ready().await;
    let (count, last) = scene.rows().await;
    let lost = lost_at - last.unwrap();
    assert!(count > 0 && lost <= MAX_LOSS as f64, "{lost} s are lost");
    // And it goes on from there.
    scene.execute(&format!("INSERT INTO rows VALUES ({})", count + 1)).await;
    container.stop().await;
    let container = scene.ready().await;
    assert_eq!(scene.rows().await.0, count + 1);
    container.stop().await;
}

#[tokio::test]
async fn an_orderly_end_and_the_end_of_the_server_alone_cost_nothing() {
    let scene = Scene::new();
    let container = scene.ready().await;
    scene.execute(TABLE).await;
    scene.execute("INSERT INTO rows SELECT generate_series(1, 100)").await;
    let text = container.stop().await;
    assert!(!text.contains("secret"), "{text}");

    let mut container = scene.ready().await;
    assert_eq!(scene.rows().await.0, 100);
    scene.execute("INSERT INTO rows SELECT generate_series(101, 150)").await;
    let pid = fs::read_to_string(container.disk.path().join("data/postmaster.pid")).unwrap();
    let pid: i32 = pid.lines().next().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL)
        .unwrap();
    assert_eq!(container.supervisor.end().await, 1, "{}", container.supervisor.text());
    let disk = container.disk;

    let container = scene.ready().await;
    assert_eq!(scene.rows().await.0, 150);
    container.stop().await;
    // The first disk's state is an old one: it is not gone on from.
    let mut container = scene.start_on(disk);
    container.supervisor.line("is restored from base backup").await;
    container.supervisor.line("idle is ready").await;
    container.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_starts_again_in_its_container_loses_nothing() {
    let scene = Scene::new();
    let mut container = scene.ready().await;
    scene.execute(TABLE).await;
    scene.execute("INSERT INTO rows SELECT generate_series(1, 10)").await;
    container.supervisor.signal(Signal::KILL);
    container.supervisor.gone().await;
    let mut again = scene.start_on(container.disk);
    again.supervisor.line("goes on from this container's disk").await;
    again.supervisor.line("idle is ready").await;
    assert_eq!(scene.rows().await.0, 10);
    again.stop().await;
}

#[tokio::test]
async fn the_earlier_layout_is_taken_over_once_and_stays_as_it_is() {
    // A directory that a server was killed in, on a volume, with a password of its own.
    let earlier = Scene::new();
    let container = earlier.ready().await;
    earlier.execute(TABLE).await;
    earlier.execute("INSERT INTO rows SELECT generate_series(1, 20)").await;
    earlier.execute("ALTER ROLE goat PASSWORD 'another'").await;
    let kept = container.disk.path().join("data");
    let scene = Scene::new();
    fs::create_dir_all(scene.store()).unwrap();
    container.lose_but(|| copy(&kept, &scene.store().join("data"))).await;
    let before = listing(&scene.store().join("data"));

    let mut container = scene.start();
    container.supervisor.line("takes over").await;
    container.supervisor.line("idle is ready").await;
    assert_eq!(scene.rows().await.0, 20);
    scene.execute("INSERT INTO rows VALUES (21)").await;
    container.stop().await;
    let container = scene.ready().await;
    assert_eq!(scene.rows().await.0, 21, "it was taken over a second time");
    container.stop().await;
    assert_eq!(listing(&scene.store().join("data")), before);

    // One that another version made is refused with a sentence.
    let other = Scene::new();
    copy(&scene.store().join("data"), &other.store().join("data"));
    fs::write(other.store().join("data/PG_VERSION"), "9\n").unwrap();
    let mut container = other.start();
    assert_eq!(container.supervisor.end().await, 3);
    let text = container.supervisor.text();
    assert!(text.contains("was made by PostgreSQL 9 and can't be opened by"), "{text}");
}

impl Container {
    /// Killed; its disk is there until `look` has returned.
    async fn lose_but(mut self, look: impl FnOnce()) {
        self.supervisor.signal(Signal::KILL);
        self.supervisor.gone().await;
        let pid = fs::read_to_string(self.disk.path().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        until("the server is gone", || !crate::harness::is_alive(&pid)).await;
        look();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Paths and contents.
fn listing(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                left.push(entry);
            } else {
                found.push((entry.clone(), fs::read(entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn of_two_containers_only_one_writes() {
    let scene = Scene::new();
    let mut first = scene.ready().await;
    scene.execute(TABLE).await;
    let mut second = scene.start_with(directory(), 4);
    assert_eq!(second.supervisor.end().await, 3);
    let text = second.supervisor.text();
    assert!(text.contains("another container writes to this database"), "{text}");

    // One that hangs has lost it; when it goes on, it ends, and its WAL is not taken.
    let mut connection = scene.connect().await;
    first.supervisor.signal(Signal::STOP);
    let other = Scene { outlives: scene.outlives, port: free_port(), control: free_port() };
    let third = other.ready().await;
    let writer = fs::read_to_string(other.store().join("writer")).unwrap();
    let insert = sqlx::query("INSERT INTO rows VALUES (1)");
    insert.execute(&mut connection).await.unwrap();
    first.supervisor.signal(Signal::CONT);
    assert_eq!(first.supervisor.end().await, 3);
    let text = first.supervisor.text();
    assert!(text.contains("another container may write from now on"), "{text}");
    assert!(text.contains("WAL: another server writes here now"), "{text}");
    assert_eq!(fs::read_to_string(other.store().join("writer")).unwrap(), writer);
    other.execute("CREATE TABLE mine (number bigint)").await;
    third.stop().await;
}

#[tokio::test]
async fn queries_can_only_read_and_a_dump_is_whole() {
    let scene = Scene::new();
    let container = scene.ready().await;
    scene.execute(TABLE).await;
    scene.execute("INSERT INTO rows SELECT generate_series(1, 3)").await;
    let (status, table) = scene.query("SELECT number, NULL AS none FROM rows ORDER BY 1").await;
    assert_eq!(status, 200, "{table}");
    let rows = json!([["1", null], ["2", null], ["3", null]]);
    let (columns, types) = (["number", "none"], ["INT8", "TEXT"]);
    let wanted = json!({ "columns": columns, "types": types, "rows": rows, "truncated": false });
    assert_eq!(table, wanted);
    let (_, none) = scene.query("SELECT number, 'x' AS x FROM rows WHERE number > 9").await;
    let (columns, types) = (["number", "x"], ["INT8", "TEXT"]);
    let rows = json!([]);
    let wanted = json!({ "columns": columns, "types": types, "rows": rows, "truncated": false });
    assert_eq!(none, wanted, "a table without rows has a header");
    let (_, many) = scene.query("SELECT generate_series(1, 20000)").await;
    assert_eq!(
        (many["truncated"].as_bool(), many["rows"].as_array().unwrap().len()),
        (Some(true), 10_000)
    );
    for forbidden in [
        "INSERT INTO rows VALUES (4)",
        "SET default_transaction_read_only = off; DELETE FROM rows",
        "COMMIT; SET default_transaction_read_only = off; BEGIN; DROP TABLE rows",
        "SET ROLE goat; SET default_transaction_read_only = off; DELETE FROM rows",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_terminate_backend(1)",
        "nonsense",
    ] {
        let (status, answer) = scene.query(forbidden).await;
        // Ending a process that is no backend answers false, with a warning.
        let is_harmless = answer["rows"] == json!([["f"]]);
        assert!(status == 400 || is_harmless, "{forbidden}: {status} {answer}");
    }
    assert_eq!(scene.rows().await.0, 3);

    let (status, dump) = scene.ask("GET /goat/postgres/dump", PASSWORD, "").await;
    assert_eq!(status, 200);
    assert!(dump.contains("CREATE TABLE public.rows") && dump.contains("database dump complete"));
    assert!(!dump.contains("OWNER TO") && !dump.contains("GRANT"), "{dump}");
    for line in
        ["GET /goat/postgres/dump", "POST /goat/postgres/restore", "GET /goat/postgres/status"]
    {
        assert_eq!(scene.ask(line, "wrong", "").await.0, 401);
    }
    scene.another_asks().await;
    container.stop().await;
    assert!(scene.asked("SELECT 1", &[], PASSWORD).await.starts_with("ERROR: "));
    assert!(scene.asked("", &["--dump"], PASSWORD).await.starts_with("pg_dump error: "));
}

impl Scene {
    /// What the command `ask` says, as the function of another container calls it.
    async fn asked(&self, sql: &str, flags: &[&str], key: &str) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_service-supervisor"));
        command.args(["ask", "--url", "THERE", "--key", "KEY"]).args(flags).env("KEY", key);
        command.env("THERE", format!("http://127.0.0.1:{}", self.control));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(sql.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn psql(&self, sql: &str) -> String {
        let mut command = tokio::process::Command::new(programs().join("psql"));
        command.args(["-X", "-h", "127.0.0.1", "-U", "goat", "-d", "langfuse", "-c", sql]);
        command.arg("-p").arg(self.port.to_string()).env("PGPASSWORD", PASSWORD);
        let output = command.env("LC_ALL", "C.UTF-8").output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Tables are psql's, letter for letter.
    async fn another_asks(&self) {
        for sql in [
            "SELECT 1 AS a",
            "SELECT number, NULL AS none, number * 1.5 AS more, 'x' || number AS text FROM rows",
            "SELECT 'a long text' AS t, E'one\\nand two\\nthree' AS lines, 17 AS a_long_name",
            "SELECT 17 AS n, E'ü\\nz' AS last",
            "SELECT now()::date IS NULL AS no, '{1,2}'::int[] AS list",
        ] {
            assert_eq!(self.asked(sql, &[], PASSWORD).await, self.psql(sql).await, "{sql}");
        }
        let error = self.asked("SELECT * FROM nowhere", &[], PASSWORD).await;
        assert_eq!(error, "psql error: ERROR:  relation \"nowhere\" does not exist");
        let dump = self.asked("", &["--dump"], PASSWORD).await;
        assert!(dump.contains("CREATE TABLE public.rows"), "{dump}");
        let nothing = self.asked(" ", &[], PASSWORD).await;
        assert_eq!(nothing, "ERROR: no SQL was given, and no dump was asked for");
        let refused = self.asked("SELECT 1", &[], "wrong").await;
        assert_eq!(refused, "ERROR: the database's password was not sent as the key");
    }
}

#[tokio::test]
async fn an_older_state_is_restored_and_there_is_a_way_back() {
    let scene = Scene::new();
    let mut container = scene.ready().await;
    scene.execute(TABLE).await;
    scene.execute("INSERT INTO rows SELECT generate_series(1, 5)").await;
    let (status, made) = scene.ask("POST /goat/postgres/backup", PASSWORD, "").await;
    assert_eq!(status, 200, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    scene.execute("INSERT INTO rows VALUES (6)").await;
    let until_six = Timestamp::now();
    scene.execute("INSERT INTO rows SELECT generate_series(7, 9)").await;

    for (body, wanted) in [
        (json!({ "until": "2999-01-01T00:00:00Z" }), 400),
        (json!({ "until": "2020-01-01T00:00:00Z" }), 404),
        (json!({ "base": "nonsense" }), 404),
        (json!({}), 400),
    ] {
        let (status, answer) =
            scene.ask("POST /goat/postgres/restore", PASSWORD, &body.to_string()).await;
        assert_eq!(status, wanted, "{body}: {answer}");
    }
    let steps = [(json!({ "until": until_six }), 6), (json!({ "base": made["base"] }), 5)];
    for (times, (body, rows)) in steps.into_iter().enumerate() {
        let before = container.supervisor.said.len();
        let (status, answer) =
            scene.ask("POST /goat/postgres/restore", PASSWORD, &body.to_string()).await;
        assert_eq!(status, 202, "{answer}");
        container.supervisor.line_after(before, "idle is ready").await;
        assert_eq!(scene.rows().await.0, rows, "restore {times}");
    }
    // Before each restore a base backup was made: the last rows are still to be had.
    let said = container.supervisor.said.clone();
    let back =
        said.iter().find_map(|line| line.split("the state until now is base backup ").nth(1));
    let before = container.supervisor.said.len();
    let body = json!({ "base": back.unwrap() }).to_string();
    assert_eq!(scene.ask("POST /goat/postgres/restore", PASSWORD, &body).await.0, 202);
    container.supervisor.line_after(before, "idle is ready").await;
    assert_eq!(scene.rows().await.0, 9);
    container.stop().await;
    // What was restored is what later starts go on from.
    let container = scene.ready().await;
    assert_eq!(scene.rows().await.0, 9);
    container.stop().await;
}
