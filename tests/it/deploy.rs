//! The services on the local target: set up, deployed, used by an evaluation, and its traces found by the official SDK.

use std::{fs, process::Output};

use it::{Machine, python};
use serde_json::Value;

use crate::{
    infra_test,
    keys::{self, Outside},
    services_commands,
};

/// How long traces may be on their way.
const PATIENCE: &str = "60";

fn json(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"))
}

fn run(machine: &Machine, args: &[&str]) -> Output {
    let args: Vec<_> = ["--target", "local", "--output", "json"].iter().chain(args).collect();
    machine.xtask(&args.into_iter().copied().collect::<Vec<_>>()).output().unwrap()
}

fn succeed(machine: &Machine, args: &[&str]) -> Value {
    let output = run(machine, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}\n{stderr}", output.status);
    json(&output)
}

/// What the official SDK finds of a run.
fn traces(
    machine: &Machine,
    host: &str,
    values: &[(String, String)],
    run: &str,
    count: usize,
) -> Value {
    let value = |name: &str| values.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let script = it::repository().join("fixtures/langfuse-sdk/find_traces.py");
    let output = machine
        .command(python::langfuse_interpreter())
        .env("LANGFUSE_HOST", host)
        .env("LANGFUSE_PUBLIC_KEY", value("LANGFUSE_INIT_PROJECT_PUBLIC_KEY"))
        .env("LANGFUSE_SECRET_KEY", value("LANGFUSE_INIT_PROJECT_SECRET_KEY"))
        .env("NO_PROXY", "127.0.0.1")
        .arg(script)
        .args([run, &count.to_string(), PATIENCE])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json(&output)
}

#[test]
fn an_evaluation_goes_through_the_deployed_proxy_and_every_call_is_traced() {
    let machine = Machine::new();
    let file = machine.path().join("values.env");
    let machine = machine.with("GOAT_ENV_FILE", file.display().to_string());
    // The same programs in half the time: what is measured here is not their speed.
    let machine = machine.with("CARGO_PROFILE_SERVICE_OPT_LEVEL", "0");
    let early = run(&machine, &["deploy"]);
    assert_eq!(early.status.code(), Some(2), "{early:?}");
    assert!(String::from_utf8_lossy(&early.stderr).contains("run `cargo xtask setup` first"));
    succeed(&machine, &["setup", "--yes"]);

    let first = succeed(&machine, &["deploy", "--wait"]);
    assert_eq!(first["version"], 1, "{first}");
    assert_eq!(first["unchanged"], false);
    let again = succeed(&machine, &["deploy", "--wait"]);
    assert_eq!((&again["version"], &again["unchanged"]), (&first["version"], &Value::from(true)));
    let urls = succeed(&machine, &["urls"]);
    let asked = python::run_flow(&machine, "services_query.py", &[]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "query ok\n", "{asked:?}");

    let eval = succeed(&machine, &["eval", "--batch", "fixtures/benchmarks/smoke.json"]);
    let run_id = eval["run_id"].as_str().unwrap_or_else(|| panic!("{eval}"));
    let trials = eval["results"].as_array().unwrap();
    assert_eq!(eval["model_source"], "replay", "{eval}");

    let text = fs::read_to_string(&file).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let values: Vec<_> = text.lines().filter_map(pair).collect();
    let host = urls["langfuse"].as_str().unwrap();
    let found = traces(&machine, host, &values, run_id, trials.len());
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), trials.len(), "one trace for each attempt: {found:?}");
    for trial in trials {
        let task = &trial["id"];
        let trace = found.iter().find(|it| it["name"] == *task).unwrap_or_else(|| panic!("{task}"));
        assert_eq!(trace["session"], run_id);
        for generation in trace["generations"].as_array().unwrap() {
            let counts = |name: &str| generation[name].as_u64().unwrap();
            assert!(counts("input_tokens") > 0 && counts("output_tokens") > 0, "{generation}");
            // The token's own claims, which the agent can't change.
            let alias = format!("{run_id}/{}", task.as_str().unwrap());
            assert_eq!(generation["alias"], Value::from(alias));
        }
    }

    let outside = Outside::new(&machine, &values, &urls);
    let revoked = keys::keys_open_what_they_grant_and_nothing_else(&outside);
    let poor = keys::a_budget_ends(&outside);
    keys::a_stream_is_counted(&outside);
    keys::traces_are_verified_listed_and_shown(&outside);
    infra_test::DEPLOYED.into_iter().for_each(|phase| infra_test::prove(&machine, phase));

    services_commands::the_database_is_read_and_kept(&machine);

    // A new key reaches the proxy alone: Langfuse goes on, with the traces it has.
    succeed(&machine, &["setup", "--yes", "--rotate", "LITELLM_MASTER_KEY"]);
    let rotated = succeed(&machine, &["deploy", "--wait"]);
    assert_eq!(rotated["version"], 2, "{rotated}");
    let change = |name: &str| {
        let functions = rotated["functions"].as_array().unwrap();
        functions.iter().find(|it| it["name"] == name).unwrap()["change"].clone()
    };
    assert_eq!(change("langfuse"), serde_json::json!({ "state": "unchanged" }));
    let secrets = serde_json::json!({ "state": "changed", "parts": ["secrets"] });
    assert_eq!(change("litellm"), secrets);
    traces(&machine, host, &values, run_id, trials.len());
    let urls = succeed(&machine, &["urls"]);
    let text = fs::read_to_string(&file).unwrap();
    let rotated: Vec<_> = text.lines().filter_map(pair).collect();
    let outside = Outside::new(&machine, &rotated, &urls);
    keys::the_next_container_remembers(&outside, &revoked, &poor);

    // No value was given away by what the services print.
    let logs = run(&machine, &["logs", "--tail", "20000"]);
    let said = String::from_utf8_lossy(&logs.stdout);
    let is_secret =
        |name: &str| name.contains("KEY") || name.contains("PASSWORD") || name.contains("SALT");
    for (name, value) in
        values.iter().filter(|(name, _)| is_secret(name) && !name.contains("PUBLIC"))
    {
        assert!(!said.contains(value.as_str()), "{name} is in the log");
    }
    services_commands::an_earlier_version_comes_back(&machine);
    succeed(&machine, &["stop", "--yes"]);
    assert_eq!(run(&machine, &["urls"]).status.code(), Some(1));
}
