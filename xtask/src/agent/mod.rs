//! The agent's binary: built static, checked, found.
//!
//! The binary must run in any image, so it is linked statically: with musl where that target is
//! installed, else with glibc's static libraries.

mod elf;
#[cfg(target_os = "linux")]
mod empty_root;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// A processor that the agent can be built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    /// This machine's.
    pub fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    /// The first part of Rust's target names.
    fn rust_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The file's name, as Goat's scripts know it.
    fn file_name(self) -> &'static str {
        match self {
            Self::Amd64 => "goat-eval-linux",
            Self::Arm64 => "goat-eval-linux-arm64",
        }
    }

    /// The machine number in an ELF header (System V ABI supplements).
    fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

/// Builds the agent for `arch` if its sources changed, checks it and gives its path.
pub async fn build(arch: Arch) -> anyhow::Result<PathBuf> {
    let target = rust_target(arch)?;
    let directory = workspace().join("target/agent");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).stdin(Stdio::null()).stdout(Stdio::null());
    cargo.args(["build", "--package", "goat-eval", "--profile", "agent", "--target", &target]);
    cargo.arg("--target-dir").arg(&directory);
    // Flags of this shell would make another binary, and a build from scratch at every change.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = tokio::task::spawn_blocking(move || cargo.status()).await?;
    let status = status.context("can't start cargo to build the agent")?;
    if !status.success() {
        bail!("the agent does not build for {target}: see cargo's messages above");
    }
    let built = directory.join(&target).join("agent/goat-eval");
    let path = workspace().join("target/goat-eval").join(arch.file_name());
    publish(&built, &path)?;
    check(&path, arch)?;
    Ok(path)
}

/// Refuses a file that a sandbox of `arch` could not run.
pub fn check(path: &Path, arch: Arch) -> anyhow::Result<()> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("can't read agent binary `{shown}`"))?;
    let header = elf::Header::parse(&bytes)
        .with_context(|| format!("agent binary `{shown}` is not a Linux program"))?;
    if header.machine != arch.elf_machine() {
        bail!(
            "agent binary `{shown}` is for another processor (ELF machine {}); the sandbox needs {} ({})",
            header.machine,
            arch.rust_name(),
            arch.elf_machine()
        );
    }
    if let Some(loader) = header.interpreter {
        bail!(
            "agent binary `{shown}` is not static: it needs `{loader}`, which an image may lack; \
             build it with musl or with RUSTFLAGS=\"-C target-feature=+crt-static\""
        );
    }
    Ok(())
}

/// Runs `goat-eval --version` in a root that holds nothing else, and gives what it printed.
#[cfg(target_os = "linux")]
pub async fn prove_in_empty_root(path: &Path) -> anyhow::Result<String> {
    empty_root::run(path, &["--version"]).await
}

/// Elsewhere there is no such root: the binary can only be looked at.
#[cfg(not(target_os = "linux"))]
pub async fn prove_in_empty_root(_path: &Path) -> anyhow::Result<String> {
    bail!("an empty root to prove the agent in needs Linux")
}

fn rust_target(arch: Arch) -> anyhow::Result<String> {
    let musl = format!("{}-unknown-linux-musl", arch.rust_name());
    let glibc = format!("{}-unknown-linux-gnu", arch.rust_name());
    if is_installed(&musl)? {
        return Ok(musl);
    }
    if !is_installed(&glibc)? {
        bail!("Rust's target for {0} is missing; add it with: rustup target add {musl}", arch.rust_name());
    }
    if arch != Arch::native() && !has_linker(arch) {
        bail!(
            "a linker for {glibc} is missing; on Debian: apt-get install gcc-{}-linux-gnu, \
             or add the other target: rustup target add {musl}",
            arch.rust_name().replace('_', "-")
        );
    }
    Ok(glibc)
}

fn is_installed(target: &str) -> anyhow::Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .current_dir(workspace())
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("can't start rustc to ask for its targets")?;
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(directory.trim()).is_dir())
}

fn has_linker(arch: Arch) -> bool {
    let mut linker = Command::new(format!("{}-linux-gnu-gcc", arch.rust_name()));
    linker.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    linker.status().is_ok_and(|status| status.success())
}

/// Copies the binary to its published name by rename, so that a reader never sees half of it.
fn publish(built: &Path, path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().context("the agent's path has no directory")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("can't make `{}`", directory.display()))?;
    let new = path.with_extension("new");
    std::fs::copy(built, &new).with_context(|| format!("can't copy `{}`", built.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("can't write `{}`", path.display()))
}

/// The workspace's root: `cargo xtask` runs from a checkout.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}
