//! The main job: prompts in, verified results out, nothing left behind.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use it::Machine;
use llm_replay::{ReplayConfig, ReplayServer};
use serde_json::Value;

const SMOKE: &str = "fixtures/benchmarks/smoke.json";
const KEY: &str = "sk-planted-9b2e4f7a1c";

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn outcomes(summary: &Value) -> Vec<String> {
    let results = summary["results"].as_array().unwrap().iter();
    results
        .map(|r| format!("{} {}", r["id"].as_str().unwrap(), r["outcome"].as_str().unwrap()))
        .collect()
}

#[test]
fn the_smoke_benchmark_passes_and_is_kept() {
    let machine = Machine::new();
    let run = machine.succeed(&["eval", "--target", "local", "--batch", SMOKE, "--output", "json"]);
    let summary = json(&run);
    insta::assert_snapshot!(outcomes(&summary).join("\n"), @r"
    math-simple passed
    file-create passed
    bash-command passed
    code-fix passed
    grep-search passed
    ");
    assert_eq!(summary["model_source"], "replay");
    let id = summary["run_id"].as_str().unwrap();
    let listed = machine.succeed(&["results"]);
    assert!(listed.contains(id) && listed.contains("5 passed"), "{listed}");
    let shown = machine.succeed(&["results", id, "--full"]);
    for wanted in ["17 * 20 = 340", "mountain.txt", "math-simple"] {
        assert!(shown.contains(wanted), "{wanted} is missing in:\n{shown}");
    }
    let on_volume = machine.succeed(&["results", "--volume", "--target", "local"]);
    assert!(on_volume.contains(id), "{on_volume}");
}

#[test]
fn an_agent_that_does_nothing_passes_nothing() {
    let machine = Machine::new();
    let output = machine.run(&[
        "eval",
        "--target",
        "local",
        "--batch",
        SMOKE,
        "--binary",
        "/bin/true",
        "--output",
        "json",
    ]);
    let summary = json(&String::from_utf8_lossy(&output.stdout));
    let passed: Vec<_> =
        outcomes(&summary).into_iter().filter(|o| o.ends_with(" passed")).collect();
    assert!(passed.is_empty(), "{passed:?}");
    assert_eq!(output.status.code(), Some(1));
}

/// What a command says on standard error, line by line.
pub(crate) type Lines = std::io::Lines<BufReader<ChildStderr>>;

/// Starts an evaluation that waits, and returns once its tool runs. Somebody must go on reading, or
/// the command would block.
pub(crate) fn start_waiting(machine: &Machine) -> (Child, Lines) {
    let mut child = machine
        .xtask(&["eval", "--target", "local", "--prompt", "Wait until you are stopped."])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = wait_for(BufReader::new(child.stderr.take().unwrap()).lines(), "Bash");
    (child, lines)
}

/// Returns once a line holds that text; the agent says `Bash` when it calls its tool.
pub(crate) fn wait_for(mut lines: Lines, text: &str) -> Lines {
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        let is_it = line.contains(text);
        seen.push(line);
        if is_it {
            return lines;
        }
    }
    panic!("`{text}` was never said:\n{}", seen.join("\n"));
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn sleepers() -> usize {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let commands = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
    commands.filter(|command| command == b"sleep\x00590\x00").count()
}

#[test]
fn ctrl_c_ends_the_sandbox_and_records_the_trial_as_cancelled() {
    // Two seconds are promised; the rest is for a machine that does other things too.
    const PROMISE: Duration = Duration::from_secs(2);
    const NOISE: Duration = Duration::from_secs(1);
    let machine = Machine::new();
    let (mut child, lines) = start_waiting(&machine);
    std::thread::spawn(move || lines.for_each(drop));
    let start = Instant::now();
    signal(&child, "INT");
    while sleepers() > 0 {
        assert!(start.elapsed() < PROMISE + NOISE, "the sandbox still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(start.elapsed() < PROMISE + 2 * NOISE, "it took {:?}", start.elapsed());
    let shown = machine.succeed(&["results"]);
    assert!(shown.contains("1 cancelled"), "{shown}");
    let run = shown.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let kept =
        machine.state().join(format!("results/files/{run}/prompt-baseline/transcript.jsonl"));
    let transcript = fs::read_to_string(kept).unwrap();
    assert!(transcript.contains("Wait until you are stopped."), "{transcript}");
}

#[test]
fn a_second_ctrl_c_waits_for_nothing_and_records_the_trial() {
    let machine = Machine::new();
    let (mut child, lines) = start_waiting(&machine);
    let server = crate::local::server_pid(&machine);
    crate::local::signal_server(&server, "STOP");
    let start = Instant::now();
    signal(&child, "INT");
    let lines = wait_for(lines, "stopping");
    std::thread::spawn(move || lines.for_each(drop));
    signal(&child, "INT");
    let (status, took) = (child.wait().unwrap(), start.elapsed());
    crate::local::signal_server(&server, "CONT");
    assert_eq!(status.code(), Some(130));
    assert!(took < Duration::from_millis(1_900), "it took {took:?}");
    let shown = machine.succeed(&["--target", "local", "results"]);
    assert!(shown.contains("1 cancelled"), "{shown}");
    assert_eq!(sleepers(), 0, "the next command left the sandbox running");
}

/// A model endpoint on this machine that wants `KEY`.
fn endpoint() -> (tokio::runtime::Runtime, ReplayServer) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = ReplayConfig::new([it::repository().join("fixtures/llm/smoke")]);
    config.key = Some(KEY.to_owned());
    let server = runtime.block_on(ReplayServer::start(config)).unwrap();
    (runtime, server)
}

#[test]
fn a_real_key_reaches_the_endpoint_and_nothing_else() {
    let (_runtime, server) = endpoint();
    let machine = Machine::new().with("OPENAI_API_KEY", KEY);
    let base = ["eval", "--target", "local", "--api-url"];
    let url = server.url();
    let run = |more: &[&str]| machine.succeed(&[&base[..], &[url.as_str()], more].concat());
    let summary = json(&run(&["--batch", SMOKE, "--network", "llm", "--output", "json"]));
    // The endpoint signs its models as a replay server does, so that nobody takes it for a model.
    assert_eq!(summary["model_source"], "replay", "{summary}");
    assert!(outcomes(&summary).iter().all(|o| o.ends_with(" passed")), "{summary}");
    let printed = run(&[
        "--prompt",
        "What is 2 + 2? Use bash to work it out, then answer with the number alone.",
    ]);
    assert_eq!(printed.trim(), "4");
    let holding = files_with(machine.path(), KEY.as_bytes());
    assert!(holding.is_empty(), "the key lies in {holding:?}");
}

fn files_with(directory: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !path.ends_with("images/layers") {
            found.extend(files_with(&path, needle));
        } else if kind.is_file() && fs::read(&path).is_ok_and(|d| contains(&d, needle)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn contains(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_wrong_key_an_unknown_model_an_unreachable_url_and_a_missing_file_are_one_clear_line_each() {
    let (_runtime, server) = endpoint();
    let machine = Machine::new().with("OPENAI_API_KEY", "sk-wrong-key-000");
    let complaint = |args: &[&str]| -> (Option<i32>, String) {
        let prompt = ["--prompt", "What is 2 + 2? Answer with the number alone."];
        let prompt = if args.contains(&"--batch") { &[][..] } else { &prompt[..] };
        let output =
            machine.run(&[&["eval", "--target", "local", "--quiet"], args, prompt].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let url = server.url();
    let refused = format!("error: {url} refuses the key (status 401): check OPENAI_API_KEY\n");
    assert_eq!(complaint(&["--api-url", &url]), (Some(3), refused));
    let url = one_model();
    let unknown = format!("error: {url} knows no model `gpt-9`; it has only-one\n");
    assert_eq!(complaint(&["--api-url", &url, "--model", "gpt-9"]), (Some(3), unknown));
    let (code, said) = complaint(&["--api-url", "http://127.0.0.1:9/v1"]);
    assert_eq!((code, said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.starts_with("error: no model answers at http://127.0.0.1:9/v1: "), "{said}");
    let (code, said) = complaint(&["--batch", "no/such/file.json"]);
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("no/such/file.json"), "{said}");
}

/// A server that has one model and can do nothing with it.
fn one_model() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    thread::spawn(move || {
        let body = r#"{"data": [{"id": "only-one", "owned_by": "somebody"}]}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let _ended = lines.find(String::is_empty);
            let _gone = write!(&stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    url
}
