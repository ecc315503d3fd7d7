//! A sandbox's definition as the API writes it.

use std::{collections::BTreeMap, time::Duration};

use modal_proto::client as api;
use secret_string::SecretString;

use super::{
    Probe,
    exec::pty_info,
    spec::{NetworkAccess, Port, SandboxSpec, VolumeMount},
    tag,
};

use crate::{
    ids::AppId,
    secrets::{Secret, Source, string_map},
};

pub(crate) fn milli(cores: f64) -> u32 {
    (cores * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

pub(crate) fn create_request(app: &AppId, spec: &SandboxSpec) -> api::SandboxCreateV2Request {
    api::SandboxCreateV2Request {
        app_id: app.to_string(),
        definition: Some(definition(spec)),
        tags: tags(spec),
        secret_sources: secret_sources(&spec.secrets, &spec.env),
        ..Default::default()
    }
}

pub(super) fn tags(spec: &SandboxSpec) -> Vec<api::SandboxTag> {
    spec.tags.iter().map(|(name, value)| tag(name.clone(), value.clone())).collect()
}

/// Secrets in their order, so that a later one wins, and plain variables last.
pub(super) fn secret_sources(
    secrets: &[Secret],
    env: &BTreeMap<String, SecretString>,
) -> Vec<api::SecretSource> {
    let mut sources: Vec<_> = secrets.iter().map(Secret::to_source).collect();
    if !env.is_empty() {
        let env = api::secret_source::Source::Env(string_map(env));
        sources.push(api::SecretSource { source: Some(env) });
    }
    sources
}

pub(super) fn definition(spec: &SandboxSpec) -> api::Sandbox {
    let stored = spec.secrets.iter().filter_map(|secret| match &secret.0 {
        Source::Stored { id, .. } => Some(id.to_string()),
        Source::Inline(_) => None,
    });
    let regions = (!spec.regions.is_empty())
        .then(|| api::SchedulerPlacement { regions: spec.regions.clone(), ..Default::default() });
    let ports = api::PortSpecs { ports: spec.ports.iter().map(|port| port_spec(*port)).collect() };
    api::Sandbox {
        entrypoint_args: spec.command.clone(),
        mount_ids: spec.mounts.iter().map(ToString::to_string).collect(),
        image_id: spec.image.to_string(),
        secret_ids: stored.collect(),
        resources: Some(spec.resources.clone()),
        timeout_secs: seconds(spec.timeout),
        workdir: spec.workdir.clone(),
        volume_mounts: spec.volumes.iter().map(|(path, mount)| volume_mount(path, mount)).collect(),
        scheduler_placement: regions,
        open_ports_oneof: Some(api::sandbox::OpenPortsOneof::OpenPorts(ports)),
        network_access: Some(network_access(&spec.network)),
        verbose: spec.verbose,
        name: spec.name.clone(),
        idle_timeout_secs: spec.idle_timeout.map(seconds),
        readiness_probe: spec.probe.as_ref().map(Probe::to_wire),
        pty_info: spec.pty.as_ref().map(pty_info),
        ..Default::default()
    }
}

pub(crate) fn volume_mount(path: &str, mount: &VolumeMount) -> api::VolumeMount {
    api::VolumeMount {
        volume_id: mount.volume.to_string(),
        mount_path: path.to_owned(),
        allow_background_commits: true,
        read_only: mount.read_only,
        sub_path: mount.sub_path.clone(),
    }
}

fn port_spec(port: Port) -> api::PortSpec {
    let (port, unencrypted, tunnel_type) = match port {
        Port::Encrypted(port) => (port, false, None),
        Port::Unencrypted(port) => (port, true, None),
        Port::Http2(port) => (port, false, Some(api::TunnelType::H2.into())),
    };
    api::PortSpec { port: port.into(), unencrypted, tunnel_type }
}

fn network_access(access: &NetworkAccess) -> api::NetworkAccess {
    use api::network_access::NetworkAccessType as Type;
    let (kind, cidrs, domains) = match access {
        NetworkAccess::Open => (Type::Open, Vec::new(), Vec::new()),
        NetworkAccess::Blocked => (Type::Blocked, Vec::new(), Vec::new()),
        NetworkAccess::AllowList { cidrs, domains } => {
            (Type::Allowlist, cidrs.clone(), domains.clone())
        }
    };
    api::NetworkAccess {
        network_access_type: kind.into(),
        allowed_cidrs: cidrs,
        allowed_domains: domains,
    }
}
