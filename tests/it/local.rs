//! The embedded server as a background process.

use std::{process::Command, time::Duration};

use it::Machine;
use serde_json::Value;

fn status(machine: &Machine) -> Value {
    let output = machine.run(&["local", "status", "--output", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_starts_says_how_it_isolates_and_stops() {
    let machine = Machine::new();
    let variables = machine.start_local();
    let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["MODAL_SERVER_URL", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"]);
    let running = machine.succeed(&["local", "status"]);
    assert!(running.contains("namespaces") || running.contains("isolation"), "{running}");
    machine.succeed(&["local", "stop"]);
    assert_ne!(status(&machine)["state"], "running");
}

#[test]
fn a_second_command_finds_the_first_ones_server() {
    let machine = Machine::new();
    assert_eq!(machine.start_local(), machine.start_local());
}

#[test]
fn a_killed_server_is_replaced() {
    let machine = Machine::new();
    let first = machine.start_local();
    let record = std::fs::read_to_string(machine.state().join("server.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let pid = record["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_until_gone(&pid);
    let second = machine.start_local();
    assert_ne!(first, second, "the dead server's address was handed out");
}

fn wait_until_gone(pid: &str) {
    for _ in 0..500 {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {pid} does not end");
}
