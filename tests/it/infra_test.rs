//! `infra-test`: every check passes where all is well, and fails under its sabotage; what is missing never passes.
//!
//! What needs no deployment is proved here, the rest in the one deployment of `deploy`.

use std::collections::BTreeSet;

use it::Machine;
use serde_json::Value;

/// Phases whose checks need no deployment.
const CHEAP: [&str; 2] = ["phase1", "phase2"];
/// Phases whose checks do.
pub(crate) const DEPLOYED: [&str; 3] = ["phase3", "phase4", "phase5"];

fn json(machine: &Machine, args: &[&str], code: i32) -> Vec<Value> {
    let args = [&["--target", "local", "--output", "json", "infra-test"], args].concat();
    let output = machine.run(&args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"))
}

fn text<'v>(row: &'v Value, name: &str) -> &'v str {
    row[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {row}"))
}

/// The checks of a phase where traces go to the app's own Langfuse, as the program lists them.
fn listed(machine: &Machine, phase: &str) -> BTreeSet<String> {
    let rows = json(machine, &["--list"], 0);
    let rows = rows.iter().filter(|row| text(row, "phase") == phase);
    let rows = rows.filter(|row| ["any", "own"].contains(&text(row, "langfuse")));
    rows.map(|row| text(row, "check").to_owned()).collect()
}

/// Does to each check of a phase what makes it fail. All of them must pass, fail for that reason alone, and pass.
pub(crate) fn prove(machine: &Machine, phase: &str) {
    let all = listed(machine, phase);
    assert!(!all.is_empty());
    is_proved(machine, &[phase], &all);
}

/// The same where traces go to an existing Langfuse, for the checks that ask it.
pub(crate) fn prove_existing(machine: &Machine) {
    let asks = [
        "langfuse-health",
        "langfuse-version",
        "langfuse-no-key",
        "trace",
        "trace-tokens",
        "trace-cost",
        "trace-owner",
        "trial-trace",
    ];
    let flags: Vec<&str> = asks.iter().flat_map(|name| ["--check", name]).collect();
    is_proved(machine, &flags, &asks.map(str::to_owned).into());
}

fn is_proved(machine: &Machine, args: &[&str], checks: &BTreeSet<String>) {
    let proofs = json(machine, &[&["--prove"], args].concat(), 0);
    let proved = proofs.iter().filter(|proof| proof["proved"] == true);
    let proved: BTreeSet<String> = proved.map(|proof| text(proof, "check").to_owned()).collect();
    assert!(proved == *checks, "{args:?}: {proofs:#?}");
}

/// How checks of a phase end where it can't pass.
fn statuses(machine: &Machine, phase: &str) -> Vec<(String, String)> {
    let rows = json(machine, &[phase], 1);
    rows.iter()
        .map(|row| {
            assert!(text(row, "status") == "passed" || text(row, "next").len() > 8, "{row}");
            (text(row, "check").to_owned(), text(row, "status").to_owned())
        })
        .collect()
}

#[test]
fn every_phase_is_proved_here_or_where_something_is_deployed() {
    let machine = Machine::new();
    let rows = json(&machine, &["--list"], 0);
    let phases: BTreeSet<&str> = rows.iter().map(|row| text(row, "phase")).collect();
    assert_eq!(phases, CHEAP.into_iter().chain(DEPLOYED).collect());
}

#[test]
fn checks_fail_under_their_sabotage_and_what_is_missing_never_passes() {
    let machine = Machine::new();
    let file = machine.path().join("values.env").display().to_string();
    let machine = machine.with("GOAT_ENV_FILE", file);
    prove(&machine, "phase1");

    let before = statuses(&machine, "phase2");
    let status = |name: &str, rows: &[(String, String)]| {
        rows.iter().find(|(check, _)| check == name).unwrap().1.clone()
    };
    assert_eq!(status("environment", &before), "failed");
    assert_eq!(status("secrets", &before), "skipped");
    machine.succeed(&["--target", "local", "setup", "--yes"]);
    prove(&machine, "phase2");

    // Nothing is deployed: one check says so, and nothing passes in its shadow.
    let services = statuses(&machine, "phase3");
    assert_eq!(status("deployed", &services), "failed");
    assert!(services.iter().skip(1).all(|(_, status)| status == "skipped"), "{services:?}");
    let calls = statuses(&machine, "phase4");
    assert_eq!(status("call", &calls), "failed");
    assert!(calls.iter().all(|(_, status)| status != "passed"), "{calls:?}");

    // An evaluation needs no deployment, and says that no proxy answered.
    let rows = json(&machine, &["phase5"], 0);
    let ended: Vec<_> = rows.iter().map(|row| (text(row, "check"), text(row, "status"))).collect();
    let wanted = [
        ("evaluation", "passed"),
        ("results", "passed"),
        ("through-proxy", "skipped"),
        ("trial-trace", "skipped"),
    ];
    assert_eq!(ended, wanted);
    let not_built = json(&machine, &["phase6"], 1);
    assert_eq!(text(&not_built[0], "status"), "not_built_yet");
}
