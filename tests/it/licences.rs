//! `deny.toml` says which licences may come in; this proves it where `cargo deny` is not installed.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

/// The strings of `allow = [ … ]` in `deny.toml`.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(it::repository().join("deny.toml")).unwrap();
    let list = text.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether one of the alternatives of an SPDX expression is allowed as a whole.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let trim = |term: &str| term.trim_matches([' ', '(', ')']).to_owned();
    let expression = expression.replace('/', " OR ");
    let mut alternatives = expression.split(" OR ");
    alternatives.any(|one| one.split(" AND ").all(|term| allowed.contains(&trim(term))))
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(it::repository())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    let foreign: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none"), &allowed))
        .map(|package| {
            format!("{} {}: {}", package["name"], package["version"], package["license"])
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
    assert!(packages.len() > 100, "cargo metadata named only {} packages", packages.len());
}

#[test]
fn an_expression_is_allowed_by_one_whole_alternative() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    assert!(is_allowed("GPL-3.0 OR MIT", &allowed));
    assert!(is_allowed("MIT/Apache-2.0", &allowed));
    assert!(is_allowed("(MIT OR GPL-2.0)", &allowed));
    assert!(!is_allowed("MIT AND GPL-3.0", &allowed));
    assert!(!is_allowed("none", &allowed));
}
