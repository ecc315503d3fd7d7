//! The proxy's configuration as a person gets it: what is written, what is refused, and that no value is shown.

use std::fs;

use it::Machine;
use serde_json::Value;

const KEY: &str = "planted-value-7c31e9a0d2";

/// A machine without any provider, and a catalogue and environment of its own.
fn machine() -> Machine {
    let machine = Machine::new();
    fs::write(machine.path().join("none.env"), "# nothing\n").unwrap();
    let some =
        format!("AZURE_API_KEY={KEY}\nAZURE_API_BASE=https://a.example\nGROQ_API_KEY={KEY}\n");
    fs::write(machine.path().join("some.env"), some).unwrap();
    machine
}

fn file(machine: &Machine, name: &str) -> String {
    machine.path().join(name).display().to_string()
}

#[test]
fn models_appear_where_their_provider_is_complete() {
    let machine = machine();
    let none = machine.run(&["litellm", "models", "--env-file", &file(&machine, "none.env")]);
    assert_eq!(none.status.code(), Some(1));
    let some = machine.succeed(&[
        "litellm",
        "models",
        "--env-file",
        &file(&machine, "some.env"),
        "--output",
        "json",
    ]);
    let models: Value = serde_json::from_str(&some).unwrap();
    let served = |name: &str| {
        let model = models.as_array().unwrap().iter().find(|model| model["name"] == name).unwrap();
        (model["served"].as_bool().unwrap(), model["provider"].as_str().unwrap().to_owned())
    };
    assert_eq!(served("gpt-5-nano"), (true, "azure".to_owned()));
    assert_eq!(served("llama-3.3-70b"), (true, "groq".to_owned()));
    assert!(!served("gpt-4o").0);
}

#[test]
fn a_configuration_is_written_without_a_value_and_lints_clean() {
    let machine = machine();
    let into = file(&machine, "proxy");
    machine.succeed(&[
        "litellm",
        "config",
        "--env-file",
        &file(&machine, "some.env"),
        "--into",
        &into,
    ]);
    for name in ["config.yaml", "goat_auth.py", "requirements.txt"] {
        let text = fs::read_to_string(machine.path().join("proxy").join(name)).unwrap();
        assert!(!text.contains(KEY), "{name} holds a value");
    }
    let config = format!("{into}/config.yaml");
    for set in ["langfuse-2", "langfuse-3"] {
        let linted = machine.succeed(&["litellm", "lint", &config, "--strict", "--set", set]);
        assert!(linted.contains("0 error(s), 0 warning(s), 0 note(s)"), "{linted}");
    }
    // The proxy would not have the other variables.
    let missing =
        machine.run(&["litellm", "lint", &config, "--env-file", &file(&machine, "some.env")]);
    let told = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        told.contains("LITELLM_MASTER_KEY is not set") && told.contains("langfuse-keys"),
        "{told}"
    );
    assert!(!told.contains(KEY));
}

#[test]
fn what_would_lose_traces_is_refused_before_anything_is_written() {
    let machine = machine();
    let into = file(&machine, "proxy");
    let env = file(&machine, "some.env");
    let refused = machine.run(&[
        "litellm",
        "config",
        "--set",
        "langfuse-3",
        "--langfuse-version",
        "2",
        "--env-file",
        &env,
        "--into",
        &into,
    ]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("every trace would be lost") && told.contains("langfuse-2"), "{told}");
    assert!(!machine.path().join("proxy").exists());
}

#[test]
fn mistakes_end_with_one_and_are_mended_where_they_can_be() {
    let machine = machine();
    let path = machine.path().join("bad.yaml");
    let text = "model_list:\n  - model_name: m\n    litellm_params:\n      model: azure/x\n      api_base: os.environ/B\n      \
                api_key: ${K}\n      api_version: 2024-10-21\ngeneral_settings: {master_key: os.environ/M}\n";
    fs::write(&path, text).unwrap();
    let name = path.display().to_string();
    let found = machine.run(&["litellm", "lint", &name, "--output", "json"]);
    assert_eq!(found.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&found.stdout).unwrap();
    let rules: Vec<_> = answer[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["literal-variable", "not-a-string"]);
    machine.succeed(&["litellm", "lint", &name, "--fix"]);
    let mended = fs::read_to_string(&path).unwrap();
    assert!(
        mended.contains("api_key: os.environ/K\n")
            && mended.contains("api_version: \"2024-10-21\"\n"),
        "{mended}"
    );
    let missing = machine.run(&["litellm", "lint", "/nowhere.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
}
