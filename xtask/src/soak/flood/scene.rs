//! The two functions of the app as processes of this machine, each with ports and directories of its own.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use goat_keys::{Claims, SigningKeys};
use goat_services::{
    Generator,
    app::{
        Contents, FILES, LANGFUSE_URL, Langfuse, Litellm, Service, Traces, Upstreams, langfuse,
        litellm,
    },
};
use jiff::Timestamp;
use litellm_config::{Catalogue, VersionSet};
use sandbox_runner::agent::Arch;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Kill, container::Container};
use crate::{agent, context::Context, workspace::Workspace};

/// What is asked for; the replay answers for every model of the catalogue.
pub(super) const MODEL: &str = "gpt-5-nano";
/// The answers.
const RECORDINGS: &str = "fixtures/soak/flood";
/// Ports of the plans, which stand in them and in the proxy's configuration.
const PORTS: [u16; 8] = [4000, 4001, 4002, 4003, 3000, 3001, 3002, 5432];
/// A lease ends after so many seconds in the short form.
const SHORT_LEASE: u32 = 3;
/// How long the token lives; far more than this takes.
const LIFE: Duration = Duration::from_secs(3_600);

/// Everything that runs.
pub(super) struct Scene {
    home: TempDir,
    ports: BTreeMap<u16, u16>,
    values: BTreeMap<&'static str, String>,
    proxy: Container,
    database: Container,
}

/// The session of all traces.
pub(super) fn run_id(seed: u64) -> String {
    format!("flood-{seed}")
}

impl Scene {
    /// Builds and installs what is missing, and starts both containers.
    pub(super) async fn start(context: &Context, is_long: bool) -> anyhow::Result<Self> {
        let set = VersionSet::default_set();
        let programs = programs(context).await?;
        let python = python(&context.workspace, &set.name).await?;
        let home = tempfile::Builder::new().prefix("goat-flood-").tempdir()?;
        // PostgreSQL runs as another user.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
        // It has to get at the program that starts it, wherever this repository lies.
        let launcher = home.path().join("service-supervisor");
        std::fs::copy(&programs.supervisor, &launcher).context("can't copy the supervisor")?;
        let ports = ports()?;
        let values = values(&ports)?;
        let supervisor = Contents::Local(programs.supervisor.clone());
        let stage = |service: Service| stage(&service, home.path(), &ports, is_long);
        let upstreams = Upstreams::Replay {
            program: Contents::Local(programs.replay),
            recordings: vec![(
                "numbers.json".to_owned(),
                context.workspace.path(RECORDINGS).join("numbers.json"),
            )],
        };
        let catalogue = Catalogue::builtin()?;
        let wanted = Litellm { set, catalogue: &catalogue, upstreams, traces: Traces::Own };
        let proxy = stage(litellm(&wanted, &supervisor))?;
        let server = Langfuse::StandIn(Contents::Local(programs.langfuse));
        let database = stage(langfuse(&server, &supervisor))?;
        let variables = variables(&values, &python, home.path());
        let container = |name, plan| {
            let (variables, home) = (variables.clone(), home.path().to_owned());
            Container::new(name, plan, &launcher, variables, home)
        };
        let (proxy, database) = (container("litellm", proxy), container("langfuse", database));
        let mut scene = Self { home, ports, values, proxy, database };
        let started = tokio::try_join!(scene.proxy.start(), scene.database.start());
        started.with_context(|| scene.last_words())?;
        Ok(scene)
    }

    /// Kills, and starts a new container in the place of the one that ended.
    pub(super) async fn kill(&mut self, kill: Kill) -> anyhow::Result<()> {
        match kill {
            Kill::Langfuse => self.database.kill(self.database.program("langfuse-local")?).await?,
            Kill::Postgres => self.database.kill(self.database.program("postgres")?).await?,
            Kill::Proxy => {
                self.proxy.lose().await?;
                return self.proxy.start().await;
            }
            Kill::Database => self.database.lose().await?,
        }
        self.database.start().await
    }

    /// Ends both, the proxy first.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.proxy.stop().await?;
        self.database.stop().await
    }

    /// Where the proxy's door is.
    pub(super) fn proxy_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[&4000])
    }

    /// Where the door of Langfuse and its database is.
    pub(super) fn langfuse_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[&3000])
    }

    /// The value of a variable.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A token of a task, which is all that the requests have.
    pub(super) fn token(&self, seed: u64) -> anyhow::Result<String> {
        let keys = SigningKeys::parse(self.value("GOAT_TASK_SIGNING_KEY"))?;
        let (run, task) = (run_id(seed).parse()?, "flood".parse()?);
        let claims = Claims::for_trial(run, task, LIFE, Timestamp::now()).with_models([MODEL]);
        Ok(keys.issue(&claims)?.expose().to_owned())
    }

    /// Leaves logs and directories where they are, to be looked at.
    pub(super) fn keep(mut self) -> PathBuf {
        self.home.disable_cleanup(true);
        self.home.path().to_owned()
    }

    /// The end of what both said, for a failure.
    pub(super) fn last_words(&self) -> String {
        let end = |said: String| {
            let lines: Vec<&str> = said.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        let (proxy, database) = (end(self.proxy.said()), end(self.database.said()));
        format!("{proxy}\n--\n{database}")
    }
}

struct Programs {
    supervisor: PathBuf,
    langfuse: PathBuf,
    replay: PathBuf,
}

/// The programs as they are put into containers.
async fn programs(context: &Context) -> anyhow::Result<Programs> {
    let arch = Arch::host().context("this machine's architecture is not known")?;
    let (workspace, printer) = (context.workspace.clone(), context.printer.clone());
    let names = ["service-supervisor", "langfuse-local", "llm-replay"];
    let building = move || agent::build_services(&workspace, arch, &names, &printer);
    let built = tokio::task::spawn_blocking(building).await??;
    let [supervisor, langfuse, replay] =
        <[PathBuf; 3]>::try_from(built).ok().context("another number of programs was built")?;
    Ok(Programs { supervisor, langfuse, replay })
}

/// The directory of LiteLLM's programs, where the tests of `litellm-config` install it, too: by the same rules.
async fn python(workspace: &Workspace, set: &str) -> anyhow::Result<PathBuf> {
    let requirements = workspace.path(&format!("crates/litellm-config/requirements/{set}.txt"));
    let wanted = std::fs::read_to_string(&requirements)?;
    let root = workspace.path("target/litellm");
    std::fs::create_dir_all(&root)?;
    let lock = std::fs::File::create(root.join(format!("{set}.lock")))?;
    tokio::task::block_in_place(|| lock.lock())?;
    let directory = root.join(set);
    let (programs, done) = (directory.join("bin"), directory.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    let mut venv = Command::new("python3");
    must(venv.args(["-m", "venv"]).arg(&directory), "python3-venv is needed").await?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"]).arg(&requirements);
    must(&mut pip, "LiteLLM's packages must come from PyPI").await?;
    std::fs::write(done, wanted)?;
    Ok(programs)
}

async fn must(command: &mut Command, why: &'static str) -> anyhow::Result<()> {
    let output = command.output().await.context(why)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{why}: {}", said.trim());
    Ok(())
}

/// A free port for each of the plans'.
fn ports() -> anyhow::Result<BTreeMap<u16, u16>> {
    let held = PORTS.map(|port| TcpListener::bind("127.0.0.1:0").map(|it| (port, it)));
    let held = held.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    held.iter().map(|(port, held)| Ok((*port, held.local_addr()?.port()))).collect()
}

/// What setup would have made.
fn values(ports: &BTreeMap<u16, u16>) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let made = |generator: Generator| anyhow::Ok(generator.make()?.expose().to_owned());
    let mut values = BTreeMap::from([
        ("LITELLM_MASTER_KEY", made(Generator::LitellmKey)?),
        ("GOAT_TASK_SIGNING_KEY", made(Generator::TaskSigningKey)?),
        ("LANGFUSE_SALT", made(Generator::Hex(32))?),
        ("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", made(Generator::LangfusePublicKey)?),
        ("LANGFUSE_INIT_PROJECT_SECRET_KEY", made(Generator::LangfuseSecretKey)?),
        ("POSTGRES_PASSWORD", made(Generator::Hex(32))?),
    ]);
    let text = [
        ("LANGFUSE_INIT_ORG_ID", "goat".to_owned()),
        ("LANGFUSE_INIT_PROJECT_ID", "goat-evals".to_owned()),
        ("POSTGRES_USER", "goat".to_owned()),
        (LANGFUSE_URL, format!("http://127.0.0.1:{}", ports[&3000])),
    ];
    values.extend(text);
    Ok(values)
}

/// What a container is started with.
fn variables(
    values: &BTreeMap<&'static str, String>,
    programs: &Path,
    home: &Path,
) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let more = [
        ("PATH", format!("{}:{path}", programs.display())),
        ("HOME", home.display().to_string()),
        ("LANG", "C.UTF-8".to_owned()),
    ];
    let own = values.iter().map(|(name, value)| (*name, value.clone()));
    own.chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Writes a function's files and answers its plan for this machine: what lies in an image or on a volume lies below
/// `home`, and ports are free ones.
fn stage(
    service: &Service,
    home: &Path,
    ports: &BTreeMap<u16, u16>,
    is_long: bool,
) -> anyhow::Result<String> {
    let files = home.join(format!("{}-files", service.name));
    for file in &service.files {
        let mut file = file.clone();
        if let Contents::Text(text) = &mut file.contents {
            *text = with_ports(text, ports);
        }
        file.write_below(&files)?;
    }
    let server = service.server().context("the function is no server")?;
    let mut plan = serde_json::to_value(&server.plan)?;
    for spec in plan["services"].as_array_mut().into_iter().flatten() {
        for word in spec["command"].as_array_mut().into_iter().flatten() {
            if let Some(below) = word.as_str().and_then(|it| it.strip_prefix(&format!("{FILES}/")))
            {
                *word = json!(files.join(below));
            }
        }
    }
    for door in plan["doors"].as_array_mut().into_iter().flatten() {
        door["listen"] = json!("127.0.0.1");
    }
    if let Some(postgres) = plan.get_mut("postgres") {
        if !rustix::process::geteuid().is_root() {
            postgres["user"] = Value::Null;
        }
        // Every container of this machine sees one directory; there is no Dict.
        postgres["lease"]["name"] = Value::Null;
        postgres["lease"]["directory"] = json!(format!("{}/lease", service.volumes[0].0));
        if !is_long {
            postgres["lease"]["expires"] = json!(SHORT_LEASE);
        }
    }
    let mut plan = with_ports(&plan.to_string(), ports);
    for (path, volume) in &service.volumes {
        let directory = home.join(volume);
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let place = directory.display().to_string();
        plan = plan.replace(&format!("\"{path}\""), &format!("\"{place}\""));
        plan = plan.replace(&format!("\"{path}/"), &format!("\"{place}/"));
    }
    Ok(plan)
}

/// The text with other ports: numbers that are a port of the plans and nothing longer.
fn with_ports(text: &str, ports: &BTreeMap<u16, u16>) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut number = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let port = number.parse().ok().and_then(|port| ports.get(&port));
        changed.push_str(&port.map_or_else(|| std::mem::take(&mut number), u16::to_string));
        number.clear();
        changed.push(c);
    }
    changed.pop();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_alone_are_changed() {
        let ports = BTreeMap::from([(4000, 50_001), (3000, 50_002)]);
        let text = r#"{"port":4000,"tokens":400000,"url":"http://127.0.0.1:3000/v1"} 4000"#;
        let wanted = r#"{"port":50001,"tokens":400000,"url":"http://127.0.0.1:50002/v1"} 50001"#;
        assert_eq!(with_ports(text, &ports), wanted);
    }
}
