//! The commands on a temporary directory, with pipes for stdin and buffers for the rest.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::failure::Kind;
use super::*;

fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

fn no_input() -> File {
    File::open("/dev/null").unwrap()
}

fn args(command: &Value) -> Vec<OsString> {
    vec!["/__modal/.bin/modal-sandbox-fs-tools".into(), command.to_string().into()]
}

fn call(command: Value) -> Result<Vec<u8>, Failure> {
    let mut stdout = Vec::new();
    match run(&args(&command), no_input(), &mut stdout) {
        (0, None) => Ok(stdout),
        (FAILED, Some(failure)) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn write(path: &Path, contents: &'static [u8]) -> Result<(), Failure> {
    let (stdin, mut input) = pipe();
    let writing = std::thread::spawn(move || input.write_all(contents));
    let (_, failure) = run(&args(&json!({"WriteFile": {"path": path}})), stdin, &mut Vec::new());
    // A command that fails early closes the pipe.
    let _ = writing.join().unwrap();
    failure.map_or(Ok(()), Err)
}

fn kind(command: Value) -> Kind {
    call(command).unwrap_err().kind
}

fn mkfifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
}

#[test]
fn what_is_written_is_read_and_parents_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c.bin");
    write(&path, b"\0\x01 first, longer").unwrap();
    write(&path, b"second").unwrap();
    assert_eq!(call(json!({"ReadFile": {"path": path}})).unwrap(), b"second");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays");
}

#[test]
fn an_existing_file_keeps_its_mode_and_a_linked_one_its_inode() {
    let dir = tempfile::tempdir().unwrap();
    let [script, first, second, link] =
        ["script", "first", "second", "link"].map(|name| dir.path().join(name));
    write(&script, b"#!/bin/sh").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
    write(&script, b"#!/bin/bash").unwrap();
    assert_eq!(fs::metadata(&script).unwrap().mode() & 0o777, 0o750);

    fs::write(&first, "one").unwrap();
    fs::hard_link(&first, &second).unwrap();
    write(&first, b"both").unwrap();
    assert_eq!(fs::read(&second).unwrap(), b"both");

    symlink(dir.path().join("behind"), &link).unwrap();
    write(&link, b"through").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(dir.path().join("behind")).unwrap(), b"through");
}

#[test]
fn failures_have_the_kinds_that_the_sdk_turns_into_exceptions() {
    let dir = tempfile::tempdir().unwrap();
    let (file, none) = (dir.path().join("file"), dir.path().join("none"));
    fs::write(&file, "x").unwrap();
    assert_eq!(kind(json!({"ReadFile": {"path": none}})), Kind::NotFound);
    assert_eq!(kind(json!({"ReadFile": {"path": dir.path()}})), Kind::IsDirectory);
    assert_eq!(kind(json!({"ReadFile": {"path": file.join("x")}})), Kind::NotDirectory);
    assert_eq!(kind(json!({"ListFiles": {"path": file}})), Kind::NotDirectory);
    assert_eq!(kind(json!({"ListFiles": {"path": none}})), Kind::NotFound);
    assert_eq!(kind(json!({"Stat": {"path": none}})), Kind::NotFound);
    assert_eq!(write(dir.path(), b"x").unwrap_err().kind, Kind::IsDirectory);
    let below = write(&file.join("below"), b"x").unwrap_err().kind;
    assert!(matches!(below, Kind::NotDirectory | Kind::AlreadyExists), "{below:?}");
    assert_eq!(
        kind(json!({"MakeDirectory": {"path": file, "parents": true}})),
        Kind::PathAlreadyExists
    );
    assert_eq!(
        kind(json!({"MakeDirectory": {"path": dir.path(), "parents": false}})),
        Kind::PathAlreadyExists
    );
    assert_eq!(
        kind(json!({"MakeDirectory": {"path": none.join("x"), "parents": false}})),
        Kind::NotFound
    );
    assert_eq!(kind(json!({"Remove": {"path": none, "recursive": true}})), Kind::NotFound);
    assert_eq!(
        kind(json!({"Remove": {"path": dir.path(), "recursive": false}})),
        Kind::DirectoryNotEmpty
    );
}

#[test]
fn a_failure_is_the_json_that_the_sdk_parses() {
    let failure = call(json!({"ReadFile": {"path": "/nonexistent/x"}})).unwrap_err();
    let json: Value = serde_json::from_str(&failure.to_json()).unwrap();
    assert_eq!(json["error_kind"], "NotFound");
    assert_eq!(json["message"], "No such file or directory");
    assert!(json["detail"].is_string());
}

#[test]
fn what_is_no_command_is_a_usage_failure() {
    for argument in ["", "{", "{\"Format\": {}}", "{\"ReadFile\": {}}", "[]"] {
        let (status, failure) = run(&["tool".into(), argument.into()], no_input(), &mut Vec::new());
        assert_eq!((status, failure.is_some()), (USAGE, true), "{argument}");
    }
    assert_eq!(run(&["tool".into()], no_input(), &mut Vec::new()).0, USAGE);
}

#[test]
fn fifos_and_devices_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo);
    for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/tty")] {
        assert_eq!(kind(json!({"ReadFile": {"path": path}})), Kind::Io, "{}", path.display());
        assert_eq!(write(path, b"x").unwrap_err().kind, Kind::Io, "{}", path.display());
    }
}

#[test]
fn a_file_without_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = dir.path().join("sparse");
    File::create(&sparse).unwrap().set_len(super::read::LARGEST + 1).unwrap();
    assert_eq!(kind(json!({"ReadFile": {"path": sparse}})), Kind::FileTooLarge);
}

#[test]
fn entries_are_described_as_by_modal() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("d")).unwrap();
    fs::write(path("a.txt"), "hello\n").unwrap();
    fs::set_permissions(path("a.txt"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("a.txt", path("link")).unwrap();
    mkfifo(&path("fifo"));
    let list: Value =
        serde_json::from_slice(&call(json!({"ListFiles": {"path": dir.path()}})).unwrap()).unwrap();
    let listed: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["name"].as_str().unwrap(), entry["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        listed,
        [("a.txt", "file"), ("d", "directory"), ("fifo", "file"), ("link", "symlink")]
    );

    let info: Value =
        serde_json::from_slice(&call(json!({"Stat": {"path": path("a.txt")}})).unwrap()).unwrap();
    assert_eq!(list[0], info);
    let keys: Vec<&String> = info.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["name", "path", "type", "size", "mode", "permissions", "owner", "group", "modified_time"]
    );
    assert_eq!(
        (&info["size"], &info["mode"], &info["permissions"]),
        (&json!(6), &json!(0o100_644), &json!("0644"))
    );
    assert_eq!(info["path"], json!(path("a.txt")));
    let time = info["modified_time"].as_f64().unwrap();
    assert!((time - fs::metadata(path("a.txt")).unwrap().mtime() as f64).abs() < 1.0);
    let link: Value =
        serde_json::from_slice(&call(json!({"Stat": {"path": path("link")}})).unwrap()).unwrap();
    assert_eq!((&link["type"], &link["symlink_target"]), (&json!("symlink"), &json!("a.txt")));
}

#[test]
fn directories_are_made_and_links_removed_but_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (made, outside) = (dir.path().join("x/y/z"), dir.path().join("outside"));
    for _ in 0..2 {
        call(json!({"MakeDirectory": {"path": made, "parents": true}})).unwrap();
    }
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    symlink(&outside, made.join("link")).unwrap();
    call(json!({"Remove": {"path": dir.path().join("x"), "recursive": true}})).unwrap();
    assert!(!dir.path().join("x").exists());
    symlink(&outside, dir.path().join("link")).unwrap();
    call(json!({"Remove": {"path": dir.path().join("link"), "recursive": true}})).unwrap();
    assert!(outside.join("kept").exists());
}

#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    let mut at: std::os::fd::OwnedFd = File::open(&top).unwrap().into();
    for level in 0..1000 {
        rustix::fs::mkdirat(&at, "deeper", 0o700.into()).unwrap();
        if level % 100 == 0 {
            rustix::fs::openat(
                &at,
                "file",
                rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY,
                0o600.into(),
            )
            .unwrap();
        }
        at = rustix::fs::openat(
            &at,
            "deeper",
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    drop(at);
    call(json!({"Remove": {"path": top, "recursive": true}})).unwrap();
    assert!(!top.exists());
}

/// A watch in progress: its lines of output, and the stdin that ends it.
struct Watching {
    lines: std::io::Lines<BufReader<File>>,
    stdin: File,
    ended: std::thread::JoinHandle<(i32, Option<Failure>)>,
}

impl Watching {
    /// Starts, and waits until changes are seen.
    fn start(root: &Path, options: Value) -> Self {
        let (input, stdin) = pipe();
        let (output, mut stdout) = pipe();
        let mut command = json!({"Watch": {"path": root}});
        command["Watch"].as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let ended = std::thread::spawn(move || run(&args(&command), input, &mut stdout));
        let mut watching = Self { lines: BufReader::new(output).lines(), stdin, ended };
        let probe = root.join("probe");
        let (sender, done) = std::sync::mpsc::channel::<()>();
        let probing = std::thread::spawn({
            let probe = probe.clone();
            move || {
                while done.recv_timeout(std::time::Duration::from_millis(20)).is_err() {
                    fs::create_dir(&probe).unwrap();
                    fs::remove_dir(&probe).unwrap();
                }
                fs::create_dir(probe.with_file_name("ready")).unwrap();
            }
        });
        watching.next();
        sender.send(()).unwrap();
        probing.join().unwrap();
        while watching.next() != ("Create".to_owned(), vec![root.join("ready")]) {}
        watching
    }

    fn next(&mut self) -> (String, Vec<PathBuf>) {
        let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        let paths = line["paths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| PathBuf::from(path.as_str().unwrap()));
        (line["event_type"].as_str().unwrap().to_owned(), paths.collect())
    }

    /// The next event of a path that is not about reading.
    fn expect(&mut self, kind: &str, paths: &[&Path]) {
        loop {
            let (seen, at) = self.next();
            if seen != "Access" && !(seen == "Modify" && kind != "Modify") {
                assert_eq!(
                    (seen.as_str(), at),
                    (kind, paths.iter().map(|path| path.to_path_buf()).collect())
                );
                return;
            }
        }
    }

    fn stop(self) {
        drop(self.stdin);
        assert_eq!(self.ended.join().unwrap(), (0, None));
    }
}

fn root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("root");
    fs::create_dir(&root).unwrap();
    (dir, root)
}

#[test]
fn a_watch_reports_changes_until_stdin_ends() {
    let (_dir, root) = root();
    let mut watching =
        Watching::start(&root, json!({"recursive": false, "filter": null, "timeout_secs": null}));
    let (a, b) = (root.join("a"), root.join("b"));
    fs::write(&a, "x").unwrap();
    watching.expect("Create", &[&a]);
    watching.expect("Modify", &[&a]);
    fs::rename(&a, &b).unwrap();
    watching.expect("Rename", &[&a, &b]);
    fs::rename(&b, root.with_file_name("out")).unwrap();
    watching.expect("RenameFrom", &[&b]);
    fs::rename(root.with_file_name("out"), &a).unwrap();
    watching.expect("RenameTo", &[&a]);
    fs::remove_file(&a).unwrap();
    watching.expect("Remove", &[&a]);
    watching.stop();
}

#[test]
fn a_recursive_watch_follows_new_and_renamed_directories() {
    let (_dir, root) = root();
    let deep = root.join("old/deep");
    fs::create_dir_all(&deep).unwrap();
    let mut watching = Watching::start(
        &root,
        json!({"recursive": true, "filter": ["Create", "Remove", "Rename"]}),
    );
    fs::write(deep.join("1"), "").unwrap();
    watching.expect("Create", &[&deep.join("1")]);
    fs::create_dir_all(root.join("new/a/b")).unwrap();
    for made in ["new", "new/a", "new/a/b"] {
        watching.expect("Create", &[&root.join(made)]);
    }
    fs::write(root.join("new/a/b/2"), "").unwrap();
    watching.expect("Create", &[&root.join("new/a/b/2")]);
    fs::rename(root.join("old"), root.join("moved")).unwrap();
    watching.expect("Rename", &[&root.join("old"), &root.join("moved")]);
    fs::write(root.join("moved/deep/3"), "").unwrap();
    watching.expect("Create", &[&root.join("moved/deep/3")]);
    watching.stop();
}

#[test]
fn a_watch_ends_when_its_time_is_up_or_its_path_is_gone() {
    let (_dir, root) = root();
    let (stdin, _open) = pipe();
    let timed =
        run(&args(&json!({"Watch": {"path": root, "timeout_secs": 0.05}})), stdin, &mut Vec::new());
    assert_eq!(timed, (0, None));
    let watching = Watching::start(&root, json!({}));
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(watching.ended.join().unwrap(), (0, None));
    assert_eq!(kind(json!({"Watch": {"path": root}})), Kind::NotFound);
}
