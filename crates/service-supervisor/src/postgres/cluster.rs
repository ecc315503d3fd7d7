//! One PostgreSQL: its programs, its directories, how it is started.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::process::{Child, Command};

use super::error::{PostgresError, Result};
use super::store::{Store, Wish};
use crate::health;
use crate::plan::{Health, PostgresSpec, ServiceSpec, Stop, StopSignal};
use crate::process::Launch;
use crate::user::User;

/// The superuser, reached over the socket alone.
pub(super) const SUPERUSER: &str = "postgres";
/// Who answers queries of people.
pub(super) const READER: &str = "goat_reader";
/// How long it may take to write everything down at the end.
const STOP: Stop = Stop { signal: StopSignal::Int, within: Duration::from_secs(60) };
/// How long recovery may take when a server that crashed is started once more, so that nothing is lost.
const SALVAGE: Duration = Duration::from_secs(60);

/// A PostgreSQL, running or not.
pub(super) struct Cluster {
    pub(super) spec: PostgresSpec,
    pub(super) launch: Launch,
    pub(super) store: Store,
    holder: String,
}

impl Cluster {
    pub(super) fn new(spec: &PostgresSpec, launch: Launch, holder: String) -> Self {
        let store = Store::new(&spec.store);
        Self { spec: spec.clone(), launch, store, holder }
    }

    pub(super) fn data(&self) -> &Path {
        &self.spec.data
    }

    /// The directory of the socket, for the server's user and root alone.
    pub(super) fn run_directory(&self) -> PathBuf {
        beside(&self.spec.data, "run")
    }

    /// The file that names whose state the directory holds.
    pub(super) fn holder_file(&self) -> PathBuf {
        beside(&self.spec.data, "holder")
    }

    pub(super) fn program(&self, name: &str) -> String {
        let has = |place: &&PathBuf| place.join(name).is_file();
        let place = self.spec.programs.iter().find(has);
        // Looked for on the PATH, and missed by name, where it is nowhere.
        place.map_or_else(|| name.to_owned(), |place| place.join(name).display().to_string())
    }

    /// The server as a service.
    pub(super) fn service(&self) -> ServiceSpec {
        ServiceSpec {
            name: self.spec.name.clone(),
            prepare: Vec::new(),
            command: self.command("127.0.0.1"),
            env: std::collections::BTreeMap::new(),
            directory: None,
            user: self.spec.user.clone(),
            health: self.health(),
            ready_within: self.spec.ready_within,
            stop: STOP,
        }
    }

    fn health(&self) -> Health {
        Health::Command(vec![
            self.program("pg_isready"),
            "--quiet".into(),
            format!("--host={}", self.run_directory().display()),
            format!("--port={}", self.spec.port),
        ])
    }

    /// What is said here wins over the directory's own files, which an earlier layout or a restore brought along.
    fn command(&self, listen: &str) -> Vec<String> {
        let (run, data) = (self.run_directory(), self.data().display().to_string());
        let every = (self.spec.max_loss.as_secs() / 2).max(1);
        let settings = [
            format!("listen_addresses={listen}"),
            format!("port={}", self.spec.port),
            format!("unix_socket_directories={}", run.display()),
            format!("hba_file={}", run.join("hba.conf").display()),
            "wal_level=replica".into(),
            "max_wal_senders=5".into(),
            "archive_mode=on".into(),
            format!("archive_command={}", self.archive_command()),
            format!("archive_timeout={every}"),
            format!("restore_command={}", self.restore_command()),
            // Until all is restored nobody may look.
            "hot_standby=off".into(),
            "logging_collector=off".into(),
            "log_destination=stderr".into(),
            // A statement may hold a password, and what people asked.
            "log_min_error_statement=panic".into(),
        ];
        let mut command = vec![self.program("postgres"), "-D".into(), data];
        command.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        command
    }

    fn archive_command(&self) -> String {
        let (this, store) = (quoted(&self.launch.launcher), quoted(self.store.path()));
        format!("{this} archive-wal {store} {} \"%p\" \"%f\"", self.holder)
    }

    fn restore_command(&self) -> String {
        let (this, store) = (quoted(&self.launch.launcher), quoted(self.store.path()));
        format!("{this} fetch-wal {store} \"%f\" \"%p\"")
    }

    /// Makes the directory of the socket, with who may connect.
    pub(super) fn make_run_directory(&self) -> Result<()> {
        let run = self.run_directory();
        make_private(&run, self.launch.user)?;
        let hba = run.join("hba.conf");
        let lines = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(&hba, lines).map_err(PostgresError::file("write", &hba))?;
        self.own(&hba)
    }

    /// Gives a file to the user of the server.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        own(path, self.launch.user)
    }

    /// An empty directory for the server, whatever was there.
    pub(super) fn make_data_directory(&self) -> Result<()> {
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(data).map_err(PostgresError::file("remove", data))?;
        }
        make_private(data, self.launch.user)
    }

    /// A new, empty cluster.
    pub(super) async fn init(&self) -> Result<()> {
        self.make_data_directory()?;
        let data = format!("--pgdata={}", self.data().display());
        let (user, arguments) = (
            format!("--username={SUPERUSER}"),
            ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--auth=trust"],
        );
        let arguments = [data.as_str(), &user].into_iter().chain(arguments);
        self.run("initdb", arguments).await
    }

    /// Unpacks a base backup; the server itself does the rest when it starts.
    pub(super) async fn unpack(&self, base: &Path, wish: Option<&Wish>) -> Result<()> {
        self.make_data_directory()?;
        for (archive, directory) in
            [("base.tar.gz", self.data().to_owned()), ("pg_wal.tar.gz", self.data().join("pg_wal"))]
        {
            let archive = base.join(archive).display().to_string();
            let directory = directory.display().to_string();
            let command = ["tar", "-xzf", &archive, "-C", &directory].map(str::to_owned);
            self.run_command(&command).await?;
        }
        let signal = self.data().join("recovery.signal");
        fs::write(&signal, "").map_err(PostgresError::file("write", &signal))?;
        self.own(&signal)?;
        self.aim(wish)
    }

    /// Says where recovery ends, in the file that a base backup brings along, perhaps with an older aim.
    fn aim(&self, wish: Option<&Wish>) -> Result<()> {
        let path = self.data().join("postgresql.auto.conf");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("recovery_target"))
            .map(str::to_owned)
            .collect();
        lines.push("recovery_target_action = 'promote'".into());
        match wish {
            Some(Wish { until: Some(until), .. }) => {
                // PostgreSQL reads six digits of a second.
                let until = until.strftime("%Y-%m-%d %H:%M:%S%.6f+00");
                lines.push(format!("recovery_target_time = '{until}'"));
            }
            Some(Wish { base: Some(_), .. }) => {
                lines.push("recovery_target = 'immediate'".into());
                // A later restore may have led away from where it was taken.
                lines.push("recovery_target_timeline = 'current'".into());
            }
            _ => {}
        }
        fs::write(&path, lines.join("\n") + "\n").map_err(PostgresError::file("write", &path))?;
        self.own(&path)
    }

    /// Copies the directory of the earlier layout, which stays as it is.
    pub(super) async fn copy(&self, earlier: &Path) -> Result<()> {
        self.check_version(earlier).await?;
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(data).map_err(PostgresError::file("remove", data))?;
        }
        // As whoever runs this: the directory belongs to a user that may not exist here.
        own_command("cp", &["-a".as_ref(), earlier.as_os_str(), data.as_os_str()]).await?;
        if let Some(User { uid, gid }) = self.launch.user {
            let owner = format!("{uid}:{gid}");
            own_command("chown", &["-R".as_ref(), owner.as_ref(), data.as_os_str()]).await?;
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(data, private).map_err(PostgresError::file("protect", data))?;
        // Of a container that is long gone, whose process numbers mean nothing here.
        let _ = fs::remove_file(data.join("postmaster.pid"));
        Ok(())
    }

    async fn check_version(&self, earlier: &Path) -> Result<()> {
        let path = earlier.join("PG_VERSION");
        let found = fs::read_to_string(&path).map_err(PostgresError::file("read", &path))?;
        let ours = self.output("postgres", &["--version"]).await?;
        let ours = ours.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let found = found.trim().to_owned();
        if ours.split('.').next() == Some(&*found) {
            return Ok(());
        }
        Err(PostgresError::Version { path: earlier.to_owned(), found, ours })
    }

    /// Starts a server that crashed once more and ends it well, so that all it has is archived.
    pub(super) async fn salvage(&self) -> Result<()> {
        let data = self.data().display().to_string();
        let state = self.output("pg_controldata", &[&data]).await?;
        let ended_well = state.lines().any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                name == "Database cluster state" && value.trim() == "shut down"
            })
        });
        if ended_well {
            return Ok(());
        }
        let mut process = self.start("")?;
        let mut last = String::new();
        let health = self.health();
        let is_ready = tokio::select! {
            biased;
            _ended = process.wait() => false,
            ready = health::ready(&health, &self.launch, &mut last) => ready.is_ok(),
            () = tokio::time::sleep(SALVAGE) => false,
        };
        process.stop(&STOP).await;
        if is_ready { Ok(()) } else { Err(PostgresError::NotArchived(SALVAGE.as_secs())) }
    }

    fn start(&self, listen: &str) -> Result<crate::process::Process> {
        let command = self.command(listen);
        self.launch.start(&command).map_err(|error| cannot_run("postgres", &error))
    }

    /// Runs one of PostgreSQL's programs to its end, its words in the log.
    pub(super) async fn run<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let mut command = vec![self.program(program)];
        command.extend(arguments.into_iter().map(str::to_owned));
        self.run_command(&command).await
    }

    async fn run_command(&self, command: &[String]) -> Result<()> {
        let program = &command[0];
        let fail = |error: crate::Error| cannot_run(program, &error);
        let status = self.launch.start(command).map_err(fail)?.wait().await.map_err(fail)?;
        if status.success() {
            return Ok(());
        }
        Err(PostgresError::Program { program: program.clone(), status })
    }

    /// One of PostgreSQL's programs whose output is wanted, not started yet.
    pub(super) fn piped(&self, program: &str, arguments: &[&str]) -> Result<Child> {
        let program = self.program(program);
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(User { uid, gid }) = self.launch.user {
            command.uid(uid).gid(gid);
        }
        let spawned = command.kill_on_drop(true).spawn();
        spawned.map_err(|source| PostgresError::Run { program, source })
    }

    async fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let child = self.piped(program, arguments)?;
        let output = child.wait_with_output().await;
        let program = program.to_owned();
        let output = match output {
            Ok(output) => output,
            Err(source) => return Err(PostgresError::Run { program, source }),
        };
        if !output.status.success() {
            return Err(PostgresError::Program { program, status: output.status });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A connection over the socket.
    pub(super) async fn connect(&self, user: &str, database: &str) -> Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.run_directory())
            .port(self.spec.port)
            .username(user)
            .database(database)
            .disable_statement_logging();
        let connected = PgConnection::connect_with(&options).await;
        connected.map_err(PostgresError::sql("connect to the server"))
    }
}

fn cannot_run(program: &str, error: &crate::Error) -> PostgresError {
    let source = std::io::Error::other(error.chain());
    PostgresError::Run { program: program.to_owned(), source }
}

/// A program of the system, as whoever runs this.
async fn own_command(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status().await;
    let program = program.to_owned();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(PostgresError::Program { program, status }),
        Err(source) => Err(PostgresError::Run { program, source }),
    }
}

fn make_private(path: &Path, user: Option<User>) -> Result<()> {
    fs::create_dir_all(path).map_err(PostgresError::file("make", path))?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, private).map_err(PostgresError::file("protect", path))?;
    own(path, user)
}

fn own(path: &Path, user: Option<User>) -> Result<()> {
    let Some(User { uid, gid }) = user else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(PostgresError::file("give away", path))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// For the shell that PostgreSQL starts, which itself reads `%`.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%").replace('\'', r"'\''");
    format!("'{text}'")
}
