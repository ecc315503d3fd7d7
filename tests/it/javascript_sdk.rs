//! The official JavaScript SDK, unchanged, against `modal-local`: each flow asserts what its users
//! rely on.

use it::{Machine, javascript, python};

fn flow(name: &str) -> String {
    flow_on(&Machine::new(), name)
}

fn flow_on(machine: &Machine, name: &str) -> String {
    let output = javascript::run_flow(machine, name, &[]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

#[test]
fn objects() {
    insta::assert_snapshot!(flow("objects.mjs"), @r"
    environments ok
    apps ok
    secrets ok
    volumes ok
    queues ok
    proxies ok
    wrong token refused
    ");
}

#[test]
fn sandboxes() {
    insta::assert_snapshot!(flow("sandboxes.mjs"), @r"
    images ok
    entrypoint ok
    exec ok
    files ok
    names and tags ok
    surroundings ok
    refusals ok
    identities ok
    tunnels ok
    ends ok
    ");
}

#[test]
fn sandboxes_of_version_1() {
    let machine = Machine::new().with("MODAL_SANDBOX_V2", "0");
    insta::assert_snapshot!(flow_on(&machine, "sandboxes.mjs"), @r"
    images ok
    entrypoint ok
    exec ok
    files ok
    names and tags ok
    surroundings ok
    refusals ok
    identities ok
    tunnels ok
    ends ok
    ");
}

#[test]
fn snapshots_and_network_policies() {
    insta::assert_snapshot!(flow("snapshots.mjs"), @r"
    snapshots ok
    exit snapshots ok
    network policy ok
    ");
}

#[test]
fn functions() {
    let machine = Machine::new();
    python::modal(&machine, &["deploy", "fixtures/flows/functions_call.py"]);
    insta::assert_snapshot!(flow_on(&machine, "functions.mjs"), @r"
    remote ok
    spawn ok
    large values ok
    classes ok
    failures and statistics ok
    ");
}
