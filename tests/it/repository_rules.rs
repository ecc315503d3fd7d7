//! Rules that every tracked file keeps.

use std::{fs, path::PathBuf, process::Command};

fn tracked() -> Vec<PathBuf> {
    let root = it::repository();
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.split_terminator('\0').map(|name| root.join(name)).filter(|p| p.exists()).collect()
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    // Split, so that this file does not hold them itself.
    let banned = [
        concat!("/work/", "main"),
        concat!("../", "shared/"),
        concat!("deb.", "debian.org"),
        concat!("files.", "pythonhosted.org"),
        concat!("pypi.", "org"),
        concat!("index.", "crates.io"),
        concat!("registry.", "npmjs.org"),
    ];
    let mut found = Vec::new();
    for path in tracked() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let hits = banned.iter().filter(|word| text.contains(**word));
        found.extend(hits.map(|word| format!("{}: {word}", path.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_folder_of_fixtures_says_where_it_comes_from() {
    let fixtures = it::repository().join("fixtures");
    for entry in fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert!(path.join("README.md").exists(), "{} has no README.md", path.display());
        }
    }
}

#[test]
fn every_member_has_the_lints_of_the_workspace() {
    let manifests = tracked().into_iter().filter(|path| path.ends_with("Cargo.toml"));
    for path in manifests.filter(|path| *path != it::repository().join("Cargo.toml")) {
        let text = fs::read_to_string(&path).unwrap();
        let own = text.lines().any(|line| line.starts_with("[lints."));
        let shared = text.contains("[lints]\nworkspace = true");
        assert!(shared && !own, "{}: write `[lints] workspace = true`", path.display());
    }
}
