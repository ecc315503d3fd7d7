use modal_proto::client::{self, PortSpecs};

use super::*;

fn request(definition: Sandbox) -> SandboxCreateV2Request {
    let definition = Sandbox { image_id: "im-1".into(), ..definition };
    SandboxCreateV2Request {
        app_id: "ap-1".into(),
        definition: Some(definition),
        ..Default::default()
    }
}

fn parse(definition: Sandbox) -> Result<SandboxSpec> {
    SandboxSpec::parse(request(definition))
}

fn port(port: u32) -> Option<OpenPortsOneof> {
    let ports = vec![client::PortSpec { port, ..Default::default() }];
    Some(OpenPortsOneof::OpenPorts(PortSpecs { ports }))
}

#[test]
fn an_empty_definition_gets_the_defaults() {
    let spec = parse(Sandbox::default()).unwrap();
    assert_eq!(spec.timeout, Duration::from_secs(300));
    assert_eq!(spec.idle_timeout, None);
    assert_eq!(spec.network, NetworkAccess::Open);
    assert_eq!(spec.limits, Limits::default());
    assert!(spec.name.is_none() && spec.terminal.is_none() && spec.probe.is_none());
}

#[test]
fn a_resource_request_is_no_limit() {
    let resources = |resources| Sandbox { resources: Some(resources), ..Default::default() };
    let request = Resources { memory_mb: 64, milli_cpu: 125, ..Default::default() };
    assert_eq!(parse(resources(request)).unwrap().limits, Limits::default());
    let limit = Resources { memory_mb_max: 64, milli_cpu_max: 1_500, ..Default::default() };
    let limits = parse(resources(limit)).unwrap().limits;
    assert_eq!((limits.memory, limits.cpu), (Some(64 << 20), Some(1.5)));
}

#[test]
fn sources_of_secrets_replace_what_old_clients_send() {
    let source = |id: &str| SecretSource { source: Some(Source::SecretId(id.into())) };
    let old = || vec!["st-old".to_owned()];
    assert_eq!(secret_sources(vec![source("st-new")], old(), None), [source("st-new")]);
    assert_eq!(secret_sources(vec![], old(), None), [source("st-old")]);
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let mount = |mount_path: &str| Sandbox {
        volume_mounts: vec![VolumeMount {
            volume_id: "vo-1".into(),
            mount_path: mount_path.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let cases = [
        (mount("/"), "nothing can be mounted on `/`"),
        (mount("/proc/x"), "nothing can be mounted on `/proc/x`"),
        (mount("data"), "absolute"),
        (mount("/a/../b"), "absolute"),
        (Sandbox { workdir: Some("tmp".into()), ..Default::default() }, "workdir"),
        (Sandbox { open_ports_oneof: port(0), ..Default::default() }, "TCP port"),
        (Sandbox { open_ports_oneof: port(70_000), ..Default::default() }, "TCP port"),
        (
            Sandbox { open_ports_oneof: port(80), block_network: true, ..Default::default() },
            "open ports",
        ),
        (Sandbox { name: Some("a/b".into()), ..Default::default() }, "sandbox name"),
        (Sandbox { entrypoint_args: vec!["x".repeat(70_000)], ..Default::default() }, "bytes"),
        (Sandbox { entrypoint_args: vec!["a\0b".into()], ..Default::default() }, "NUL"),
        (Sandbox { proxy_id: Some("pr-1".into()), ..Default::default() }, "proxies"),
        (Sandbox { custom_domain: "x.example".into(), ..Default::default() }, "custom domains"),
    ];
    for (definition, expected) in cases {
        let error = parse(definition).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn a_volume_mount_keeps_its_directory_and_its_mode() {
    let mount = VolumeMount {
        volume_id: "vo-1".into(),
        mount_path: "/results/".into(),
        sub_path: Some("run-1/trial-2".into()),
        read_only: true,
        ..Default::default()
    };
    let spec = volume(&mount).unwrap();
    assert_eq!(spec.target, PathBuf::from("/results"));
    assert_eq!((spec.sub_path.as_str(), spec.read_only), ("run-1/trial-2", true));
}
