//! Attempts to leave a sandbox: every one fails, and nothing of it stays on this machine.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use it::{Machine, python};

const PLANTED: &str = "planted-secret-5c1f0d7e";

#[test]
fn every_attempt_to_escape_is_held() {
    let machine = Machine::new();
    let planted = plant(&machine);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut bystander = Command::new("sh")
        .args(["-c", "read line", PLANTED])
        .env("PLANTED", PLANTED)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut args = vec![PLANTED];
    args.extend(planted.iter().map(String::as_str));
    let pid = bystander.id().to_string();
    args.extend(["--", &port, &pid]);

    let output = python::run_flow(&machine, "escape.py", &args);

    assert!(bystander.try_wait().unwrap().is_none(), "the bystander was killed");
    drop(bystander.stdin.take());
    bystander.wait().unwrap();
    for path in &planted {
        fs::remove_file(path).unwrap();
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let broken: Vec<&str> = stdout.lines().filter(|line| line.contains("BROKEN")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.matches("held").count() > 330, "too few attempts were made:\n{stdout}");
}

#[test]
fn no_sandbox_reaches_what_belongs_to_another_or_to_the_server() {
    let output = python::run_flow(&Machine::new(), "neighbours.py", &[]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let broken: Vec<&str> = stdout.lines().filter(|line| line.contains("BROKEN")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.matches("--- network").count(), 5);
    assert!(stdout.matches("held").count() > 500, "too few attempts were made:\n{stdout}");
}

/// Files with a secret where programs keep theirs, readable by root alone and by everyone.
fn plant(machine: &Machine) -> Vec<String> {
    let own = machine.path().file_name().unwrap().to_string_lossy().into_owned();
    let mut paths = vec![machine.path().join("home/credentials")];
    for directory in ["/tmp", "/var/tmp", "/dev/shm", "/root", "/opt", "/srv", "/etc"] {
        paths.push(format!("{directory}/{own}-planted").into());
    }
    let mut made = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        // Where this user may not write, no secret of this user can lie either.
        if fs::write(&path, PLANTED).is_err() {
            continue;
        }
        let mode = if index % 2 == 0 { 0o600 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        made.push(path.to_string_lossy().into_owned());
    }
    made
}
