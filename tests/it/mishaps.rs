//! What agents, servers and people do wrong: nothing of it is lost, left running, or told wrongly.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Output,
    time::{Duration, Instant},
};

use it::Machine;
use llm_replay::{ReplayConfig, ReplayServer};
use serde_json::{Value, json};

use crate::eval::{json as parsed, outcomes, signal, sleepers, start_waiting, wait_for};

/// A model that has its agents run one command each, and says `done`.
fn model(commands: &[(&str, &str)]) -> (tempfile::TempDir, tokio::runtime::Runtime, ReplayServer) {
    let directory = tempfile::tempdir().unwrap();
    for (prompt, command) in commands {
        let arguments = json!({"command": command, "description": "Do it"});
        let text = json!({
            "format": "llm-replay/1",
            "origin": {"kind": "scripted", "note": "Written by a test."},
            "conversation": [
                {"user": prompt},
                {"assistant": {"tool_calls": [{"name": "Bash", "arguments": arguments}]}},
                {"tool": {}},
                {"assistant": {"text": "done"}}
            ]
        });
        fs::write(directory.path().join(format!("{prompt}.json")), text.to_string()).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ReplayConfig::new([directory.path().to_owned()]);
    let server = runtime.block_on(ReplayServer::start(config)).unwrap();
    (directory, runtime, server)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_an_agent_does_to_its_sandbox_is_never_our_failure() {
    let pipe = "rm /results/transcript.jsonl && mkfifo /results/transcript.jsonl";
    let commands = [("home", "rm -rf /workspace"), ("pipe", pipe), ("kill", "kill -9 -1")];
    let (directory, _runtime, server) = model(&commands);
    let check = json!({"command": "test -d ."});
    let tasks: Vec<Value> = commands
        .iter()
        .map(|(prompt, _)| json!({"id": prompt, "prompt": prompt, "verify": check}))
        .collect();
    let batch = directory.path().join("tasks.batch");
    fs::write(&batch, json!(tasks).to_string()).unwrap();
    let machine = Machine::new();
    let began = Instant::now();
    let output = machine.run(&[
        "eval",
        "--target",
        "local",
        "--api-url",
        &server.url(),
        "--batch",
        batch.to_str().unwrap(),
        "--output",
        "json",
    ]);
    let summary = parsed(&String::from_utf8_lossy(&output.stdout));
    let wanted = ["home failed", "pipe passed", "kill agent_error"];
    assert_eq!(outcomes(&summary), wanted, "{summary}");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let attempts = summary["results"].as_array().unwrap().iter();
    let attempts: Vec<_> = attempts.map(|it| it["attempts"].as_array().unwrap().len()).collect();
    assert_eq!(attempts, [1, 1, 1]);
    assert!(began.elapsed() < Duration::from_secs(240), "something was waited for");
}

#[test]
fn a_run_outlives_the_server() {
    let machine = Machine::new();
    let (mut child, lines) = start_waiting(&machine);
    crate::local::kill_server(&machine);
    let lines = wait_for(lines, "Bash");
    std::thread::spawn(move || lines.for_each(drop));
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(sleepers(), 0);
    let run = only_run(&machine);
    for place in [
        &["results", &run, "--output", "json"][..],
        &["results", &run, "--volume", "--output", "json"],
    ] {
        let shown = parsed(&machine.succeed(&[&["--target", "local"], place].concat()));
        let attempts = shown["results"][0]["attempts"].as_array().unwrap();
        let ends: Vec<_> = attempts.iter().map(|it| it["outcome"].as_str().unwrap()).collect();
        assert_eq!(ends, ["infrastructure_error", "cancelled"], "{shown}");
    }
}

/// The name of the one run on this machine.
fn only_run(machine: &Machine) -> String {
    let runs = parsed(&machine.succeed(&["results", "--output", "json"]));
    runs[0]["run"]["id"].as_str().unwrap().to_owned()
}

/// The run whose process is gone: its mark is still there.
fn locked_run(machine: &Machine) -> String {
    let locks = fs::read_dir(machine.state().join("locks")).unwrap().map(Result::unwrap);
    let names: Vec<_> = locks.map(|it| it.file_name().into_string().unwrap()).collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    name.strip_suffix(".lock").unwrap().to_owned()
}

#[test]
fn a_server_that_hangs_does_not_hold_up_ctrl_c() {
    let machine = Machine::new();
    let (mut child, lines) = start_waiting(&machine);
    std::thread::spawn(move || lines.for_each(drop));
    let server = crate::local::server_pid(&machine);
    crate::local::signal_server(&server, "STOP");
    signal(&child, "INT");
    let began = Instant::now();
    let code = child.wait().unwrap().code();
    let took = began.elapsed();
    crate::local::signal_server(&server, "CONT");
    assert_eq!(code, Some(130));
    assert!(took < Duration::from_secs(7), "it took {took:?}");
    let listed = machine.succeed(&["--target", "local", "results"]);
    assert!(listed.contains("1 cancelled"), "{listed}");
    assert_eq!(sleepers(), 0, "the next command left the sandbox running");
    let run = only_run(&machine);
    machine.succeed(&["--target", "local", "results", &run, "--volume"]);
}

#[test]
fn every_command_that_looks_at_runs_cleans_up_after_a_killed_one() {
    let machine = Machine::new();
    let commands = [
        &["results"][..],
        &["local", "status"],
        &["local", "gc"],
        &["infra-test", "phase1"],
        &["eval", "--prompt", "What is 2 + 2? Answer with the number alone."],
    ];
    for command in commands {
        let (mut child, lines) = start_waiting(&machine);
        std::thread::spawn(move || lines.for_each(drop));
        signal(&child, "KILL");
        child.wait().unwrap();
        let run = locked_run(&machine);
        let output = machine.run(&[&["--target", "local"], command].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", stderr(&output));
        assert_eq!(sleepers(), 0, "{command:?} left the sandbox running");
        for place in [&["results", &run][..], &["results", &run, "--volume"]] {
            let shown = machine.succeed(&[&["--target", "local"], place].concat());
            assert!(shown.contains("cancelled") && shown.contains("killed"), "{shown}");
        }
    }
}

#[test]
fn what_a_person_gets_wrong_is_told_before_anything_starts() {
    let machine = Machine::new();
    let file = machine.path().join("tasks.json");
    let file = file.to_str().unwrap();
    let musl = machine.path().join("musl");
    fs::write(&musl, elf_with_loader("/lib/ld-musl-x86_64.so.1")).unwrap();
    let prompt = ["--prompt", "x"];
    let task = |fields: Value| {
        let mut task = json!({"prompt": "x"});
        task.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([task]).to_string()
    };
    let setup = json!({"setup": {"files": {"a": "", "a/b": ""}}});
    let batches = [
        (task(setup), "`a` can't be a file and the directory of `a/b`"),
        (task(json!({"prompt": "a\u{0}b"})), "NUL"),
        (task(json!({"timeout": 86_400})), "can be 86255 s at most"),
        (task(json!({"max_turns": "5"})), "`max_turns` must be a whole number"),
        (task(json!({"network": "open"})), "reaches more than the run's `llm`"),
        (task(json!({"network": "none"})), "can't reach its model"),
    ];
    let complain = |args: &[&str], wanted: &str| {
        let output = machine.run(&[&["eval", "--target", "local"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(wanted), "{args:?}: {}", stderr(&output));
        assert!(!machine.state().join("server.json").exists(), "{args:?} started the server");
    };
    for (text, wanted) in batches {
        fs::write(file, text).unwrap();
        complain(&["--network", "llm", "--batch", file], wanted);
    }
    for network in [",.", "a..b", "1.2.3.4", "llm,github.com"] {
        complain(&[&prompt[..], &["--network", network]].concat(), "is no network");
    }
    let musl = musl.to_str().unwrap();
    complain(&[&prompt[..], &["--binary", musl]].concat(), "needs the loader");
}

/// The head of a program for this machine with one program header: the path of its loader.
fn elf_with_loader(loader: &str) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.resize(32, 0);
    bytes.extend(64u64.to_le_bytes());
    bytes.resize(54, 0);
    bytes.extend(56u16.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.resize(64, 0);
    bytes.extend(3u32.to_le_bytes());
    bytes.resize(64 + 8, 0);
    bytes.extend(120u64.to_le_bytes());
    bytes.resize(64 + 32, 0);
    bytes.extend((loader.len() as u64).to_le_bytes());
    bytes.resize(120, 0);
    bytes.extend(loader.as_bytes());
    bytes
}

#[test]
fn a_program_that_lost_its_mode_runs_and_an_image_that_can_t_be_built_says_why() {
    let machine = Machine::new();
    let agent = machine.path().join("agent");
    fs::copy("/bin/true", &agent).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o644)).unwrap();
    let agent = agent.to_str().unwrap();
    let base =
        ["--target", "local", "eval", "--prompt", "x", "--binary", agent, "--output", "json"];
    let summary = parsed(&machine.succeed(&base));
    assert_eq!(outcomes(&summary), ["prompt completed"]);
    let instead = summary["substitutions"].as_array().unwrap();
    assert!(instead.iter().any(|it| it.as_str().unwrap().starts_with("python:")), "{summary}");

    let output = machine.run(&[&base[..], &["--image", "../../x"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let run = only_run(&machine);
    let shown = machine.succeed(&["results", &run]);
    assert!(machine.succeed(&["results"]).contains("1 not run"), "the index does not know of it");
    assert!(!shown.contains("instead"), "{shown}");
    assert!(shown.contains("../../x") && shown.contains("not run"), "{shown}");

    let elsewhere = [&base[..], &["--image", "nowhere/alpine:3"]].concat();
    assert_eq!(machine.run(&elsewhere).status.code(), Some(3));
    let substitute = ["local", "substitute", "nowhere/alpine:3"];
    machine.succeed(&[&substitute[..], &["--by", "python:3.11-slim"]].concat());
    let summary = parsed(&machine.succeed(&elsewhere));
    assert_eq!(outcomes(&summary), ["prompt completed"]);
    assert!(summary["substitutions"].to_string().contains("nowhere/alpine:3: "), "{summary}");
    let remove = [&substitute[..], &["--remove"]].concat();
    assert!(machine.succeed(&remove).contains("removed"));
    assert!(machine.succeed(&remove).contains("nothing was said"));
    let refused = machine.run(&["local", "substitute", "", "--by", "python:3.11-slim"]);
    assert!(stderr(&refused).contains("needs an image's name"), "{}", stderr(&refused));
}
