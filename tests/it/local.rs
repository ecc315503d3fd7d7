//! The embedded server as a background process.

use std::{process::Command, time::Duration};

use it::{Machine, python};
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
    let server = ["MODAL_SERVER_URL", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"];
    let trust = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
    assert_eq!(names, [server, trust].concat());
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
    kill_server(&machine);
    let second = machine.start_local();
    assert_ne!(first, second, "the dead server's address was handed out");
}

#[test]
fn what_was_acknowledged_survives_sigkill_and_what_ran_does_not() {
    let machine = Machine::new();
    let before = python::run_flow(&machine, "survive.py", &["before"]);
    let said = String::from_utf8_lossy(&before.stdout).into_owned();
    assert!(before.status.success(), "{said}{}", String::from_utf8_lossy(&before.stderr));
    kill_server(&machine);
    wait_until("no program of the sandbox runs", || running(b"sleep\x00591\x00") == 0);
    let after = python::run_flow(&machine, "survive.py", &["after", said.trim()]);
    assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stderr));
}

#[test]
fn acknowledged_calls_of_functions_are_done_by_the_next_server() {
    let machine = Machine::new();
    let before = python::run_flow(&machine, "functions_survive.py", &["before"]);
    let said = String::from_utf8_lossy(&before.stdout).into_owned();
    assert!(before.status.success(), "{said}{}", String::from_utf8_lossy(&before.stderr));
    kill_server(&machine);
    let (calls, url) = said.trim().split_once(' ').unwrap();
    let after = python::run_flow(&machine, "functions_survive.py", &["after", calls, url]);
    assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stderr));
}

fn running(command: &[u8]) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let commands = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    commands.filter(|it| it == command).count()
}

pub(crate) fn server_pid(machine: &Machine) -> String {
    let record = std::fs::read_to_string(machine.state().join("server.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    record["pid"].as_u64().unwrap().to_string()
}

pub(crate) fn signal_server(pid: &str, name: &str) {
    assert!(Command::new("kill").args(["-s", name, pid]).status().unwrap().success());
}

pub(crate) fn kill_server(machine: &Machine) {
    let pid = server_pid(machine);
    signal_server(&pid, "KILL");
    wait_until("the server has ended", || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    });
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to pass that {what}");
}
