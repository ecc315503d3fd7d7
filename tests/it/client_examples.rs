//! The examples of `modal-client`, which assert what they show, against the local server.

use std::process::Command;

use it::Machine;

/// Runs an example to its end; it must succeed.
fn example(name: &str) {
    let machine = Machine::new();
    let server = machine.start_local();
    succeeds(name, machine.command(it::example_binary(name)).envs(server));
}

fn succeeds(name: &str, command: &mut Command) {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
}

#[test]
fn a_tour_of_everything() {
    example("tour");
}

#[test]
fn secrets() {
    example("secrets");
}

#[test]
fn volumes() {
    example("volumes");
}

#[test]
fn images() {
    example("images");
}

#[test]
fn sandboxes() {
    example("sandboxes");
}

#[test]
fn dicts() {
    example("dicts");
}

#[test]
fn queues() {
    example("queues");
}

#[test]
fn functions() {
    example("functions");
}

#[test]
fn logs() {
    example("logs");
}

#[test]
fn testing_without_a_server() {
    succeeds("testing", &mut Machine::new().command(it::example_binary("testing")));
}
