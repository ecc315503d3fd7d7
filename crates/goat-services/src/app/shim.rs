//! The Python that Modal runs: it starts the supervisor, and ends with it or answers with what it says.

use super::{Kind, LANGFUSE_URL, PLAN, SUPERVISOR, Service, in_files, postgres};

/// The module of a function: its name and its text.
pub fn shim(service: &Service) -> (String, String) {
    let text = match service.kind {
        Kind::Server(_) => server(service.name),
        Kind::Query => query(service.name),
    };
    (format!("goat_{}", service.name), text)
}

/// The program that Modal runs in a container interrupts it and waits half a minute; what it started would be killed
/// with it. So the shim asks the supervisor to end and waits for that, and ends the container when the supervisor does.
fn server(name: &str) -> String {
    let command = words(&[&in_files(SUPERVISOR), "run", &in_files(PLAN)]);
    format!(
        "\
import atexit
import os
import subprocess
import threading


def {name}():
    supervisor = subprocess.Popen({command})

    def stop():
        supervisor.terminate()
        supervisor.wait()

    def end_with_it():
        os._exit(supervisor.wait() or 1)

    atexit.register(stop)
    threading.Thread(target=end_with_it, daemon=True).start()
"
    )
}

/// The question goes over a pipe: arguments are for all to see.
fn query(name: &str) -> String {
    let program = in_files(SUPERVISOR);
    let command = words(&[&program, "ask", "--url", LANGFUSE_URL, "--key", postgres::PASSWORD]);
    format!(
        "\
import subprocess


def {name}(sql: str = \"\", dump: bool = False) -> str:
    command = {command}
    if dump:
        command.append(\"--dump\")
    return subprocess.run(command, input=sql, stdout=subprocess.PIPE, text=True).stdout
"
    )
}

/// JSON's strings are Python's.
fn words(command: &[&str]) -> String {
    serde_json::Value::from(command.to_vec()).to_string()
}
