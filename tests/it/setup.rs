//! `setup` on the local target: what it makes, keeps, leaves alone and says.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output};

use it::Machine;
use serde_json::Value;

/// A machine whose values are kept outside of any repository.
fn machine() -> (Machine, PathBuf) {
    let machine = Machine::new();
    let file = machine.path().join("values.env");
    let named = file.display().to_string();
    (machine.with("GOAT_ENV_FILE", named), file)
}

fn setup(machine: &Machine, more: &[&str]) -> Output {
    let args = ["setup", "--target", "local", "--output", "json"];
    machine.run(&args.iter().chain(more).copied().collect::<Vec<_>>())
}

fn plan(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What becomes of a variable.
fn state(plan: &Value, key: &str) -> String {
    let secrets = plan["secrets"].as_array().unwrap().iter();
    let mut keys = secrets.flat_map(|secret| secret["keys"].as_array().unwrap());
    keys.find(|it| it["name"] == key).unwrap()["state"].as_str().unwrap().to_owned()
}

fn values(file: &std::path::Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn setup_makes_everything_once_and_replaces_only_what_it_is_told_to() {
    let (machine, file) = machine();
    let dry = setup(&machine, &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", said(&dry));
    assert_eq!(plan(&dry)["environment"]["action"], "make");
    assert!(!file.exists(), "a dry run writes nothing");
    assert_eq!(setup(&machine, &["--check"]).status.code(), Some(1));

    let first = setup(&machine, &["--yes"]);
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = values(&file);
    assert_eq!(made.len(), 8, "the generated values and no other");

    let second = setup(&machine, &["--yes"]);
    assert!(said(&second).contains("nothing to do"), "{}", said(&second));
    assert_eq!(values(&file), made);
    assert_eq!(state(&plan(&second), "LITELLM_MASTER_KEY"), "same");
    assert_eq!(setup(&machine, &["--check"]).status.code(), Some(0));

    // Somebody edits the file: that is told, and nothing is done about it until it is asked for.
    let text = fs::read_to_string(&file).unwrap();
    let master = made.iter().find(|(name, _)| name == "LITELLM_MASTER_KEY").unwrap().1.clone();
    fs::write(&file, text.replace(&master, "sk-edited")).unwrap();
    let third = setup(&machine, &["--yes"]);
    assert_eq!(state(&plan(&third), "LITELLM_MASTER_KEY"), "differs");
    assert!(said(&third).contains("nothing to do"));
    assert_eq!(setup(&machine, &["--check"]).status.code(), Some(1));
    let rotated = setup(&machine, &["--yes", "--rotate", "LITELLM_MASTER_KEY"]);
    assert_eq!(state(&plan(&rotated), "LITELLM_MASTER_KEY"), "replaced");
    assert_eq!(setup(&machine, &["--check"]).status.code(), Some(0));

    let all = [&dry, &first, &second, &third, &rotated];
    for (name, value) in made.iter().chain(&values(&file)) {
        let shows = |output: &&Output| {
            String::from_utf8_lossy(&output.stdout).contains(value) || said(output).contains(value)
        };
        assert!(!all.iter().any(shows), "{name} was shown");
    }
}

#[test]
fn setup_refuses_what_would_go_wrong_and_says_how_to_mend_it() {
    let (machine, file) = machine();
    let unknown = setup(&machine, &["--yes", "--rotate", "MASTER_KEY"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("did you mean `LITELLM_MASTER_KEY`?"), "{}", said(&unknown));

    fs::write(&file, "AZURE_API_KEY=one-half\n").unwrap();
    let half = setup(&machine, &["--dry-run"]);
    assert_eq!(half.status.code(), Some(1));
    assert!(said(&half).contains("Azure needs AZURE_API_BASE"), "{}", said(&half));

    fs::write(&file, "sk-a-secret-alone\n").unwrap();
    let broken = setup(&machine, &["--dry-run"]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(!said(&broken).contains("sk-a-secret-alone"), "{}", said(&broken));

    let repository = machine.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let made = machine.command("git").arg("init").arg("--quiet").arg(&repository).status().unwrap();
    assert!(made.success());
    let taken = repository.join(".env").display().to_string();
    let kept = setup(&machine, &["--dry-run", "--env-file", &taken]);
    assert_eq!(kept.status.code(), Some(1));
    assert!(said(&kept).contains("add it to .gitignore"), "{}", said(&kept));
}
