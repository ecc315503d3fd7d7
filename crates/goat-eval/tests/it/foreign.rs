//! Foreign MCP servers from npm, installed once into `target/mcp-servers` and started for a test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// A file of a package that was installed by its lock file.
///
/// Fails where `npm` is missing (Debian: `apt-get install nodejs npm`) or its registry can't be reached.
fn script(package: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned();
    let (fixture, target) = (repository.join("fixtures/mcp"), target_directory());
    let directory = target.join("mcp-servers");
    fs::create_dir_all(&directory).unwrap();
    let guard = File::create(target.join("mcp-servers.lock")).unwrap();
    guard.lock().unwrap();
    let wanted = fs::read_to_string(fixture.join("package-lock.json")).unwrap();
    let stamp = directory.join("installed-lock.json");
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(fixture.join(file), directory.join(file)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        let output = npm
            .current_dir(&directory)
            .output()
            .expect("npm must be there: apt-get install nodejs npm");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(stamp, wanted).unwrap();
    }
    directory.join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js")
}

fn target_directory() -> PathBuf {
    // The test binary lies in <target>/<profile>/deps.
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// The entry of `server-everything` over stdio.
pub(crate) fn everything() -> Value {
    json!({"command": "node", "args": [script("server-everything"), "stdio"]})
}

/// The entry of `server-filesystem` for one directory.
pub(crate) fn filesystem(directory: &Path) -> Value {
    json!({"type": "stdio", "command": "node", "args": [script("server-filesystem"), directory]})
}

/// `server-everything` as a server of this machine; ended when dropped.
pub(crate) struct Listening {
    child: std::process::Child,
    pub(crate) port: u16,
}

impl Listening {
    /// Starts it with `sse` or `streamableHttp` and waits until it listens.
    pub(crate) async fn start(transport: &str) -> Self {
        let mut command = Command::new("node");
        command.arg(script("server-everything")).arg(transport).env("PORT", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Listening { child: command.spawn().unwrap(), port: 0 };
        for _ in 0..3_000 {
            if let Some(port) = listening_port(server.child.id()) {
                server.port = port;
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("server-everything does not listen");
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port that a process listens on: of the sockets in state 0A of proc_net_tcp(5), the one that it has open.
fn listening_port(pid: u32) -> Option<u16> {
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.display().to_string()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let lines: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.iter().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = *state == "0A" && open.contains(&format!("socket:[{inode}]"));
        u16::from_str_radix(local.rsplit(':').next()?, 16).ok().filter(|_| ours)
    })
}
