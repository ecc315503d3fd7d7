//! The agent's binary: built static, checked, proved.
//!
//! The binary must run in any image, so it is linked statically: with musl where that target and its
//! compiler are installed, else with glibc's static libraries.

mod cargo_process;
#[cfg(target_os = "linux")]
mod empty_root;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use anyhow::{Context as _, bail};
use sandbox_runner::agent::{AgentBinary, Arch};

pub(crate) use self::cargo_process::end as end_build;
use crate::{context::Context, printer::Printer, workspace::Workspace};

/// How long a build says nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// The C library that the agent is linked with, statically either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Libc {
    Musl,
    Gnu,
}

impl Libc {
    fn triple(self, arch: Arch) -> String {
        let libc = match self {
            Self::Musl => "musl",
            Self::Gnu => "gnu",
        };
        format!("{}-unknown-linux-{libc}", arch.rust_name())
    }
}

/// Builds the agent where it is missing or older than its sources (cargo knows), checks it, and puts
/// it where the scripts of Goat looked for it.
pub(crate) fn build(
    workspace: &Workspace,
    arch: Arch,
    printer: &Printer,
) -> anyhow::Result<AgentBinary> {
    let wanted = Wanted { profile: "agent", names: &["goat-eval"], what: "the agent" };
    let built = static_programs(workspace, arch, &wanted, printer)?;
    let placed = workspace.path("target/goat-eval").join(file_name(arch));
    place(&built[0], &placed)?;
    let agent = AgentBinary::open(&placed, arch)?;
    require_static(agent.is_static, &placed)?;
    Ok(agent)
}

/// Builds programs for containers of services, as the agent is built. Answers their paths in the order of the names.
pub(crate) fn build_services(
    workspace: &Workspace,
    arch: Arch,
    names: &[&str],
    printer: &Printer,
) -> anyhow::Result<Vec<PathBuf>> {
    let wanted = Wanted { profile: "service", names, what: "the services' programs" };
    let built = static_programs(workspace, arch, &wanted, printer)?;
    for path in &built {
        require_static(AgentBinary::open(path, arch)?.is_static, path)?;
    }
    Ok(built)
}

/// Programs that are to run in any image. Each is the only one of its package, which has its name.
struct Wanted<'a> {
    profile: &'a str,
    names: &'a [&'a str],
    /// For people.
    what: &'a str,
}

fn static_programs(
    workspace: &Workspace,
    arch: Arch,
    wanted: &Wanted<'_>,
    printer: &Printer,
) -> anyhow::Result<Vec<PathBuf>> {
    let libc = libc_for(arch);
    let triple = libc.triple(arch);
    require_target(&triple)?;
    let linker = linker(arch, libc)?;
    let target_dir = workspace.path("target/agent");
    let directory = target_dir.join(&triple).join(wanted.profile);
    let built: Vec<PathBuf> = wanted.names.iter().map(|name| directory.join(name)).collect();
    let is_first = !built.iter().all(|path| path.exists());
    if is_first {
        let what = wanted.what;
        printer.note(&format!("building {what} (once; later only where its sources changed)"));
        cargo(workspace, &target_dir, &triple, linker.as_deref(), wanted, !printer.is_quiet())?;
    } else {
        noting_what_takes_long(printer, wanted.what, || {
            cargo(workspace, &target_dir, &triple, linker.as_deref(), wanted, false)
        })?;
    }
    Ok(built)
}

fn require_static(is_static: bool, path: &Path) -> anyhow::Result<()> {
    if !is_static {
        let path = path.display();
        bail!("`{path}` needs a dynamic loader: the C library was not linked statically");
    }
    Ok(())
}

/// The agent for this machine, for checks that run it here.
pub(crate) async fn build_own(context: &Context) -> anyhow::Result<AgentBinary> {
    let arch = Arch::host().context("this machine's architecture is not known")?;
    let (workspace, printer) = (context.workspace.clone(), context.printer.clone());
    tokio::task::spawn_blocking(move || build(&workspace, arch, &printer)).await?
}

fn file_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "goat-eval-linux",
        Arch::Arm64 => "goat-eval-linux-arm64",
    }
}

/// musl where its target and its compiler are there (ring has C and assembly), else glibc.
fn libc_for(arch: Arch) -> Libc {
    let compiler = format!("{}-linux-musl-gcc", arch.rust_name());
    let native = Arch::host() == Some(arch) && is_program("musl-gcc");
    if has_target(&Libc::Musl.triple(arch)) && (native || is_program(&compiler)) {
        Libc::Musl
    } else {
        Libc::Gnu
    }
}

/// Whether the compiler has the standard library of a target.
fn has_target(triple: &str) -> bool {
    let arguments = ["--print", "target-libdir", "--target", triple];
    let output = Command::new(rustc()).args(arguments).stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && path.is_dir()
    })
}

fn require_target(triple: &str) -> anyhow::Result<()> {
    if has_target(triple) {
        return Ok(());
    }
    let works = Command::new(rustc()).arg("--version").output();
    let works =
        works.context("can't run rustc to build the agent: is Rust's toolchain in PATH?")?;
    if !works.status.success() {
        let said = String::from_utf8_lossy(&works.stderr).trim().to_owned();
        bail!("rustc, which builds the agent, does not work: {said}");
    }
    bail!("the compiler lacks the target {triple}; add it: rustup target add {triple}")
}

/// A linker for another architecture than this machine's; none where the usual one does.
fn linker(arch: Arch, libc: Libc) -> anyhow::Result<Option<String>> {
    if cfg!(target_os = "linux") && Arch::host() == Some(arch) {
        return match libc {
            Libc::Musl => Ok(Some("musl-gcc".to_owned())),
            Libc::Gnu if is_program("cc") => Ok(None),
            Libc::Gnu => bail!("there is no linker; add it: apt-get install gcc libc6-dev"),
        };
    }
    let (libc, package) = match libc {
        Libc::Musl => ("musl", "a cross compiler for musl"),
        Libc::Gnu => ("gnu", "apt-get install"),
    };
    let name = format!("{}-linux-{libc}-gcc", arch.rust_name());
    if is_program(&name) {
        return Ok(Some(name));
    }
    let debian = match arch {
        Arch::Amd64 => "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
        Arch::Arm64 => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    };
    bail!("there is no linker `{name}`; add it: {package} {debian}")
}

fn cargo(
    workspace: &Workspace,
    target_dir: &Path,
    triple: &str,
    linker: Option<&str>,
    wanted: &Wanted<'_>,
    shows_progress: bool,
) -> anyhow::Result<()> {
    let variable = triple.to_uppercase().replace('-', "_");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("build")
        .args(wanted.names.iter().flat_map(|name| ["--package", name, "--bin", name]))
        .args(["--profile", wanted.profile, "--target", triple])
        .current_dir(workspace.path(""))
        .env("CARGO_TARGET_DIR", target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !shows_progress {
        command.arg("--quiet");
    }
    if let Some(linker) = linker {
        command.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
        command.env(format!("CC_{}", triple.replace('-', "_")), linker);
    }
    let status = cargo_process::run(&mut command);
    let status = status.with_context(|| format!("can't run cargo to build {}", wanted.what))?;
    if !status.success() {
        bail!("cargo could not build {} for {triple}", wanted.what);
    }
    Ok(())
}

/// Cargo is asked each time, and nearly always has nothing to do: a word only where it has.
fn noting_what_takes_long<T>(printer: &Printer, what: &str, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (done, waits) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            if waits.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                printer.note(&format!("building {what}: sources or the compiler changed"));
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Copies in one step, and only what is new: the upload is cached by content.
fn place(built: &Path, placed: &Path) -> anyhow::Result<()> {
    let directory = placed.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let new = std::fs::read(built).with_context(|| format!("can't read `{}`", built.display()))?;
    if std::fs::read(placed).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let draft = tempfile::Builder::new().prefix(".goat-eval-").tempfile_in(directory)?;
    std::fs::copy(built, draft.path())?;
    draft.persist(placed)?;
    Ok(())
}

/// Runs `goat-eval --version` in a root that holds nothing else, and says what came of it.
pub(crate) async fn prove_in_empty_root(agent: &AgentBinary, arch: Arch) -> anyhow::Result<String> {
    #[cfg(target_os = "linux")]
    if Arch::host() == Some(arch) {
        let said = empty_root::run(&agent.path, &["--version"]).await?;
        return Ok(format!("runs in an empty root as `{said}`"));
    }
    let _ = agent;
    Ok(format!("static; not run: this machine is not {} Linux", arch.name()))
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
