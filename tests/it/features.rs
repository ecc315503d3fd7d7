//! `cargo xtask` and the tests are built with the same features, so that nothing is compiled twice.

use std::{collections::BTreeSet, process::Command};

/// Packages with their features as cargo builds them for this machine, without build scripts and macros.
fn packages(of: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--format", "{p} [{f}]"])
        .args(of)
        .current_dir(it::repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn xtask_and_the_tests_share_what_is_built() {
    let ours = packages(&["--package", "xtask", "--edges", "no-dev,no-build,no-proc-macro"]);
    let all = packages(&["--workspace", "--edges", "no-build,no-proc-macro"]);
    assert!(ours.len() > 100, "{ours:?}");
    let built_twice: Vec<_> = ours.difference(&all).collect();
    assert!(
        built_twice.is_empty(),
        "turn on in crates/shared-features what the others do: {built_twice:#?}"
    );
}
