//! The official Python SDK, unchanged, against `modal-local`: each flow asserts what its users rely on.

use it::{Machine, python};

fn flow(name: &str, args: &[&str]) -> String {
    flow_on(&Machine::new(), name, args)
}

fn flow_on(machine: &Machine, name: &str, args: &[&str]) -> String {
    let output = python::run_flow(machine, name, args);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

#[test]
fn environments_and_secrets() {
    insta::assert_snapshot!(flow("objects.py", &[]), @r"
    environments ok
    secrets ok
    workspace ok
    wrong token refused
    ");
}

#[test]
fn dicts_and_queues() {
    insta::assert_snapshot!(flow("dicts_queues.py", &[]), @r"
    dicts ok
    leases ok
    queues ok
    ");
}

#[test]
fn volumes_of_both_versions() {
    insta::assert_snapshot!(flow("volumes.py", &[]), @r"
    volume command line v2 ok
    volume command line v1 ok
    volume library ok
    network file systems ok
    ");
}

#[test]
fn images() {
    let output = flow("images.py", &["packages"]);
    for step in [
        "layers ok",
        "failed as it should:",
        "functions of images ok",
        "volumes of steps ok",
        "names ok",
        "packages ok",
        "added Python ok",
        "wrong python refused",
    ] {
        assert!(output.contains(step), "`{step}` is missing:\n{output}");
    }
}

#[test]
fn sandboxes() {
    insta::assert_snapshot!(flow("sandboxes.py", &[]), @r"
    entrypoint ok
    exec ok
    files ok
    names and tags ok
    ends ok
    surroundings ok
    tunnel ok
    sidecars ok
    run ok
    ");
}

/// Version 1 of the interface, which clients choose for GPUs and old habits: the same sandboxes.
#[test]
fn sandboxes_of_version_1() {
    let machine = Machine::new().with("MODAL_SANDBOX_V2", "0");
    insta::assert_snapshot!(flow_on(&machine, "sandboxes.py", &[]), @r"
    entrypoint ok
    exec ok
    files ok
    names and tags ok
    ends ok
    surroundings ok
    tunnel ok
    sidecars ok
    run ok
    ");
}

#[test]
fn snapshots_and_network_policies() {
    insta::assert_snapshot!(flow("snapshots.py", &[]), @r"
    snapshots ok
    mounted images ok
    exit snapshots ok
    persistent sandboxes ok
    memory snapshots refused
    network policy ok
    ");
}

#[test]
fn functions() {
    insta::assert_snapshot!(flow("functions.py", &[]), @r"
    modal run: call ok
    modal run: map ok
    modal run: exception ok
    modal run: generator ok
    modal run: inside ok
    modal run: a failure is told
    modal run --detach ok
    modal run -i: a breakpoint ok
    modal app logs ok
    modal function logs, calls, stats ok
    modal container list, logs, exec ok
    modal deploy, history, rollback, stop ok
    ");
}

#[test]
fn web_functions() {
    insta::assert_snapshot!(flow("functions.py", &["web"]), @r"
    web functions ok
    redeploy without a dropped request ok
    ");
}

#[test]
fn servers() {
    insta::assert_snapshot!(flow("functions.py", &["server"]), @r"
    open server ok
    proxy authentication ok
    sticky sessions ok
    limits, settings and statistics ok
    redeploy without a dropped request ok
    an image's own server ok
    ");
}

#[test]
fn garbage_is_nothing_that_a_function_needs() {
    let output = flow("garbage.py", &[]);
    let said: Vec<&str> = output.lines().collect();
    assert_eq!(said[..2], ["in a container that runs", "in a new container"]);
    assert!(said[2].starts_with("not for anything new:"), "{output}");
}
