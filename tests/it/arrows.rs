//! The arrows between crates, as ARCHITECTURE.md draws them.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Which crates of this workspace each crate may depend on, tests aside.
const ALLOWED: &[(&str, &[&str])] = &[
    ("container-network", &[]),
    ("container-runtime", &[]),
    ("eval-types", &[]),
    ("goat-eval", &["tls-config"]),
    ("goat-keys", &["eval-types"]),
    ("goat-services", &["goat-keys", "litellm-config", "secret-string", "service-supervisor"]),
    ("it", &["modal-proto"]),
    ("langfuse-client", &["tls-config"]),
    ("langfuse-local", &[]),
    ("litellm-config", &[]),
    ("llm-replay", &["tls-config"]),
    ("modal-client", &["modal-proto", "secret-string", "tls-config"]),
    ("modal-local", &["container-network", "container-runtime", "modal-proto", "secret-string"]),
    ("modal-proto", &[]),
    ("modal-supervisor", &["modal-client", "service-supervisor"]),
    ("modal-zero", &["modal-proto"]),
    ("results-store", &["eval-types"]),
    ("sandbox-runner", &["eval-types", "modal-client", "tls-config"]),
    ("secret-string", &[]),
    (
        "service-supervisor",
        &["eval-types", "goat-keys", "langfuse-client", "secret-string", "tls-config"],
    ),
    ("shared-features", &[]),
    ("test-postgres", &[]),
    ("tls-config", &[]),
    ("wire-replay", &["modal-proto"]),
    (
        "xtask",
        &[
            "container-runtime",
            "eval-types",
            "goat-keys",
            "goat-services",
            "langfuse-client",
            "litellm-config",
            "llm-replay",
            "modal-client",
            "modal-local",
            "modal-proto",
            "modal-zero",
            "results-store",
            "sandbox-runner",
            "shared-features",
            "test-postgres",
            "tls-config",
        ],
    ),
];

/// Crates whose types may not appear outside these members.
const WRAPPED: &[(&str, &[&str])] = &[
    ("tonic", &["modal-proto", "modal-client", "modal-local", "modal-zero", "wire-replay"]),
    (
        "sqlx",
        &[
            "langfuse-local",
            "modal-local",
            "results-store",
            "service-supervisor",
            "shared-features",
        ],
    ),
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(it::repository())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|d| d["kind"].is_null()).map(|d| text(&d["name"]));
            (text(&package["name"]), normal.collect())
        })
        .collect()
}

#[test]
fn every_arrow_between_crates_is_drawn() {
    let dependencies = dependencies();
    let members: Vec<&String> = dependencies.keys().collect();
    assert_eq!(members, ALLOWED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, allowed) in ALLOWED {
        let ours = dependencies[*name].iter().filter(|d| members.contains(d));
        let undrawn: Vec<_> = ours.filter(|d| !allowed.contains(&d.as_str())).collect();
        assert!(undrawn.is_empty(), "{name} may not depend on {undrawn:?}");
    }
}

#[test]
fn transports_stay_in_the_crates_that_own_them() {
    for (member, dependencies) in dependencies() {
        for (library, owners) in WRAPPED {
            let uses = dependencies.iter().any(|d| d == library);
            assert!(!uses || owners.contains(&member.as_str()), "{member} may not use {library}");
        }
    }
}
