//! The Python that Modal runs: it starts the supervisor, and ends with it.

use super::{PLAN, SUPERVISOR, Service, in_files};

/// The module of a function: its name and its text.
///
/// The program that Modal runs in a container interrupts it and waits half a minute; what it started would be killed
/// with it. So the shim asks the supervisor to end and waits for that, and ends the container when the supervisor does.
pub fn shim(service: &Service) -> (String, String) {
    let (name, command) = (service.name, [in_files(SUPERVISOR), "run".to_owned(), in_files(PLAN)]);
    // JSON's strings are Python's.
    let command = serde_json::Value::from(command.to_vec());
    let text = format!(
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
    );
    (format!("goat_{name}"), text)
}
