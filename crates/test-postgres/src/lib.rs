//! A PostgreSQL server of its own for a test: made in a temporary directory, reached over a Unix socket, stopped by
//! its own pid.
//!
//! PostgreSQL refuses to run as root; then it runs as the user `postgres` (or `nobody`), who owns the directory.
//! A machine without PostgreSQL 13 to 18 fails with a sentence that says what to install.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    process: Child,
    database: String,
}

impl Postgres {
    /// Makes and starts a server with one empty database, and waits until it answers.
    ///
    /// # Panics
    /// Where PostgreSQL is missing or does not start: it is a helper of tests.
    pub fn start(database: &str) -> Self {
        match Self::try_start(database) {
            Ok(server) => server,
            Err(error) => panic!("no PostgreSQL for this test: {error}"),
        }
    }

    /// As [`Postgres::start`], for programs that are no tests.
    ///
    /// # Errors
    /// Where PostgreSQL is missing or does not start; its last words are part of the error.
    pub fn try_start(database: &str) -> io::Result<Self> {
        let programs = programs()?;
        let user = User::find()?;
        let directory = tempfile::Builder::new().prefix("test-postgres-").tempdir()?;
        user.own(directory.path())?;
        init(&programs, &user, directory.path())?;
        let log = fs::File::create(directory.path().join("log"))?;
        let mut command = user.command(&programs.join("postgres"));
        command.args(options(directory.path())).stdin(Stdio::null());
        let process = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { directory, process, database: database.to_owned() };
        server.make_database(&programs, &user)?;
        Ok(server)
    }

    /// `postgresql://…`, as `DATABASE_URL` is written: user `postgres`, no password, over the socket.
    pub fn url(&self) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgresql://postgres@{socket}/{}", self.database)
    }

    /// The directory of the socket, for `psql -h`.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Seconds of CPU that the server and its backends have used, those that have ended included.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let mut ticks = 0;
        for pid in family(self.process.id())? {
            // A backend may end while it is looked at.
            ticks +=
                fs::read_to_string(format!("/proc/{pid}/stat")).map_or(0, |stat| ticks_of(&stat));
        }
        #[expect(clippy::cast_precision_loss, reason = "ticks of one test")]
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(seconds)
    }

    /// Creates the database as soon as the server answers.
    fn make_database(&mut self, programs: &Path, user: &User) -> io::Result<()> {
        let began = Instant::now();
        loop {
            let mut createdb = user.command(&programs.join("createdb"));
            createdb.arg("-h").arg(self.directory.path()).args(["-U", "postgres", &self.database]);
            let output = createdb.output()?;
            if output.status.success() {
                return Ok(());
            }
            if self.process.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.directory.path().join("log"))?;
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("it did not start: {words}\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: nothing of a test's database is needed again.
        if let Some(pid) =
            i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.process.wait();
    }
}

fn options(directory: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec!["-D".into(), directory.join("data").into()];
    options.extend(["-k".into(), directory.into()]);
    // The socket alone; and no waiting for a disk that nobody will read.
    let settings = ["listen_addresses=", "fsync=off", "max_connections=60", "shared_buffers=64MB"];
    options.extend(settings.into_iter().flat_map(|setting| [OsString::from("-c"), setting.into()]));
    options
}

fn init(programs: &Path, user: &User, directory: &Path) -> io::Result<()> {
    let mut initdb = user.command(&programs.join("initdb"));
    initdb.arg("-D").arg(directory.join("data"));
    initdb.args(["-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync"]);
    let output = initdb.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Where `initdb` and `postgres` lie: on the PATH, or where Debian puts them.
fn programs() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian =
        (13..=18).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    let mut places = debian.chain(std::env::split_paths(&path));
    places
        .find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
        .ok_or_else(|| {
            io::Error::other(
                "`initdb` and `postgres` were not found; install Debian's package `postgresql`",
            )
        })
}

/// Who runs the server.
struct User {
    /// `None`: whoever runs this.
    ids: Option<(u32, u32)>,
}

impl User {
    fn find() -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { ids: None });
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let ids = ["postgres", "nobody"].into_iter().find_map(|name| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        });
        let missing =
            "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`";
        Ok(Self { ids: Some(ids.ok_or_else(|| io::Error::other(missing))?) })
    }

    fn own(&self, directory: &Path) -> io::Result<()> {
        self.ids.map_or(Ok(()), |(uid, gid)| chown(directory, Some(uid), Some(gid)))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_remove("PGHOST").env_remove("PGPORT");
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// A process and its children.
fn family(parent: u32) -> io::Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    Ok(std::iter::once(parent).chain(children).collect())
}

/// User and system time, of the process and of its children that have ended.
fn ticks_of(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_answers_and_is_gone_afterwards() {
        let server = Postgres::start("mine");
        assert!(server.url().ends_with("/mine"));
        assert!(server.cpu_seconds().unwrap() >= 0.0);
        let (pid, directory) = (server.pid(), server.socket_directory().to_owned());
        assert!(directory.join(".s.PGSQL.5432").exists());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!directory.exists());
    }
}
