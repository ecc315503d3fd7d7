//! Commands around the deployed services, at the deployment of `deploy`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use it::Machine;
use serde_json::Value;

fn text(machine: &Machine, args: &[&str]) -> String {
    machine.succeed(&[&["--target", "local"], args].concat())
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    serde_json::from_str(&text(machine, &[&["--output", "json"], args].concat())).unwrap()
}

/// The database is asked and dumped, can't be written to, gets a base backup, and goes back to none unasked.
pub(crate) fn the_database_is_read_and_kept(machine: &Machine) {
    let none = text(machine, &["langfuse", "query", "SELECT id, name FROM traces WHERE false"]);
    assert!(none.contains("id") && none.contains("name"), "{none}");
    let counted = json(machine, &["langfuse", "query", "SELECT count(*) AS n FROM traces"]);
    assert_eq!(counted["columns"], serde_json::json!(["n"]));
    assert!(counted["rows"][0][0].as_str().unwrap().parse::<u32>().unwrap() > 0, "{counted}");
    let writes = ["--target", "local", "langfuse", "query", "DELETE FROM traces"];
    let refused = machine.run(&writes);
    assert!(!refused.status.success(), "it deleted");

    let dump = machine.path().join("dump.sql");
    text(machine, &["langfuse", "dump", "--into", &dump.display().to_string()]);
    assert!(fs::read_to_string(&dump).unwrap().contains("CREATE TABLE public.traces"));
    assert_eq!(fs::metadata(&dump).unwrap().permissions().mode() & 0o777, 0o600);

    let made = json(machine, &["langfuse", "backup"]);
    let base = made["base"].as_str().unwrap();
    let before = json(machine, &["langfuse", "status"]);
    assert!(before["bases"].as_array().unwrap().iter().any(|it| it["name"] == base), "{before}");
    let unasked = machine.run(&["--target", "local", "langfuse", "restore", "--base", base]);
    assert_eq!(unasked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("nobody said yes"));
    assert_eq!(json(machine, &["langfuse", "status"])["started_at"], before["started_at"]);
}

/// Version 1 again, after version 2.
pub(crate) fn an_earlier_version_comes_back(machine: &Machine) {
    let versions = |history: &Value| -> Vec<u64> {
        history.as_array().unwrap().iter().map(|it| it["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&json(machine, &["history"])), [2, 1]);
    let unknown = machine.run(&["--target", "local", "rollback", "7"]);
    assert_eq!(unknown.status.code(), Some(2));
    let done = json(machine, &["rollback"]);
    assert_eq!((&done["version"], &done["repeats"]), (&Value::from(3), &Value::from(1)), "{done}");
    let history = json(machine, &["history"]);
    assert_eq!(versions(&history), [3, 2, 1]);
    assert_eq!(history[0]["rollback_of"], 1, "{history}");
    let apps = text(machine, &["apps"]);
    assert!(apps.lines().any(|it| it.contains("goat-services") && it.contains("deployed")));
}
