//! Finds out what this machine can do by doing it: a throw-away container with an empty root, and a program in it.

use std::fs;
use std::sync::Arc;

use super::child::PROBE_PROGRAM;
use super::runtime::Shared;
use crate::capabilities::{Capabilities, Mode};
use crate::error::{Error, Result};
use crate::spec::{ContainerSpec, ExecSpec, NetworkSpec, RootSpec, Upper};

/// The strongest mode in which a container can be made and a program runs in it.
pub(crate) async fn probe(shared: &Arc<Shared>) -> Result<Capabilities> {
    let mut reasons = Vec::new();
    for mode in candidates() {
        match attempt(shared, *mode, NetworkSpec::None).await {
            Ok(()) => return Ok(describe(shared, *mode).await),
            Err(error) if error.is_gone() => return Err(error),
            Err(error) => reasons.push(format!("{mode:?}: {}", chain(&error))),
        }
    }
    Err(Error::Unsupported { reason: reasons.join("; "), hint: hint() })
}

fn candidates() -> &'static [Mode] {
    if rustix::process::geteuid().is_root() { &[Mode::Full, Mode::UserNs] } else { &[Mode::UserNs] }
}

async fn describe(shared: &Arc<Shared>, mode: Mode) -> Capabilities {
    let groups = shared.instance().groups();
    let mut notes: Vec<String> = groups.note.iter().cloned().collect();
    let tun = attempt(shared, mode, NetworkSpec::Tun).await;
    if let Err(error) = &tun {
        notes.push(format!("no network: {}", chain(error)));
    }
    Capabilities {
        mode,
        limits: groups.backend(),
        exec_groups: groups.exec_groups(),
        tun: tun.is_ok(),
        notes,
    }
}

async fn attempt(shared: &Arc<Shared>, mode: Mode, network: NetworkSpec) -> Result<()> {
    let layer = shared.instance().directory().join("probe");
    fs::create_dir_all(&layer).map_err(Error::host("create directory", &layer))?;
    let upper = Upper::Tmpfs { bytes: 1 << 20, inodes: 64 };
    let root = RootSpec { layers: vec![layer], upper };
    let mut spec = ContainerSpec::new("probe".parse()?, root);
    spec.network = network;
    let container = shared.create(spec, mode).await?;
    let process = container.exec(ExecSpec::new([PROBE_PROGRAM])).await?;
    process.wait().await?;
    container.terminate().await
}

/// An error with its causes on one line.
fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// The likeliest way out, from what the kernel says about itself.
fn hint() -> String {
    let set = |file: &str, value: &str| {
        fs::read_to_string(file).is_ok_and(|contents| contents.trim() == value)
    };
    if set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "run as root, or set kernel.apparmor_restrict_unprivileged_userns=0".to_owned();
    }
    if set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "run as root, or set kernel.unprivileged_userns_clone=1".to_owned();
    }
    if set("/proc/sys/user/max_user_namespaces", "0") {
        return "set user.max_user_namespaces above 0".to_owned();
    }
    "run as root on Linux 5.19 or newer, outside of another container, or use the target `modal`"
        .to_owned()
}
