//! SIGTERM and SIGINT end a run within two seconds, in whatever it is, with transcript and summary complete and nothing
//! left behind.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Child,
};

use crate::support::{Agent, Finished, KEY, Model, Reply, wait_for};

/// What is promised, on a monotonic clock from the signal to the end of the process.
const PROMISE: Duration = Duration::from_secs(2);

/// A machine that is busy with other tests may be late once; an agent that is late is so every time.
const TRIES: usize = 3;

fn bash(command: &str) -> (&'static str, String) {
    ("Bash", json!({"command": command}).to_string())
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap()
}

/// Sends the signal and waits for the end: how the run ended, and how long that took.
async fn end(agent: Agent, mut child: Child, signal: Signal) -> (Finished, Duration) {
    // Whatever still comes of the outputs is read on the side, or not at all where a test has taken them.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Waiting would close it, and the end of its input is another end.
    let _stdin = child.stdin.take();
    let read = async |output: Option<_>| {
        let mut text = Vec::new();
        if let Some(mut output) = output {
            read_all(&mut output, &mut text).await;
        }
        text
    };
    let start = Instant::now();
    kill_process(pid(&child), signal).unwrap();
    let ended = async {
        let status = child.wait().await.unwrap();
        (status, start.elapsed())
    };
    let ((status, elapsed), stdout, stderr) =
        tokio::join!(ended, read(stdout.map(Output::Stdout)), read(stderr.map(Output::Stderr)));
    let output = std::process::Output { status, stdout, stderr };
    (agent.finished(output), elapsed)
}

enum Output {
    Stdout(tokio::process::ChildStdout),
    Stderr(tokio::process::ChildStderr),
}

async fn read_all(output: &mut Output, text: &mut Vec<u8>) {
    match output {
        Output::Stdout(output) => output.read_to_end(text).await.unwrap(),
        Output::Stderr(output) => output.read_to_end(text).await.unwrap(),
    };
}

/// What has to hold of every run that a signal has ended.
fn assert_in_order(run: &Finished, code: i32) {
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    let summary = run.summary();
    assert_eq!((&summary["outcome"], &summary["exit_code"]), (&json!("cancelled"), &json!(code)));
    let events = run.events();
    assert_eq!(events[0]["event"], "start");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&json!("end"), &json!(code)));
    assert_eq!(last["turns"], summary["turns"]);
    assert_eq!(run.leftovers(), Vec::<String>::new());
    assert!(!run.everything().contains(KEY));
}

/// Plays a case with both signals. It gets an agent into the state that it is about; what it returns is checked.
async fn in_time(case: impl AsyncFn() -> (Agent, Child)) -> Vec<Finished> {
    let mut finished = Vec::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut taken = Vec::new();
        loop {
            let (agent, child) = case().await;
            let (run, elapsed) = end(agent, child, signal).await;
            assert_in_order(&run, code);
            finished.push(run);
            taken.push(elapsed);
            if elapsed < PROMISE {
                break;
            }
            assert!(taken.len() < TRIES, "it took {taken:?}");
        }
    }
    finished
}

fn read_transcript(agent: &Agent) -> Vec<Value> {
    let text = std::fs::read_to_string(agent.files.path().join("transcript.jsonl"));
    let text = text.unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for an event in the transcript.
async fn noted(agent: &Agent, kind: &str) {
    for _ in 0..3_000 {
        if read_transcript(agent).iter().any(|event| event["event"] == kind) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {kind}: {:?}", read_transcript(agent));
}

#[tokio::test]
async fn in_the_middle_of_a_streaming_answer() {
    let runs = in_time(async || {
        let model = Model::start([Reply::Stalls("half an answer")]).await;
        let mut agent = Agent::new(&model).prompt("go");
        let child = agent.spawn();
        model.asked(1).await;
        (agent, child)
    });
    for run in runs.await {
        assert_eq!((run.summary()["turns"].as_u64(), run.stdout.as_str()), (Some(0), ""));
    }
}

#[tokio::test]
async fn while_a_model_is_silent() {
    in_time(async || {
        let model = Model::start([Reply::Hangs]).await;
        let mut agent = Agent::new(&model).prompt("go");
        let child = agent.spawn();
        model.asked(1).await;
        (agent, child)
    })
    .await;
}

#[tokio::test]
async fn while_a_command_runs_that_ignores_every_signal_it_can() {
    let runs = in_time(async || {
        let command = "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT; echo $$ > other; while :; do sleep 1; done' & \
                       echo $$ > shell; while :; do sleep 1; done";
        let model = Model::start([Reply::Calls("", vec![bash(command)])]).await;
        let mut agent = Agent::new(&model).prompt("go");
        let child = agent.spawn();
        wait_for(&agent.path("shell")).await;
        wait_for(&agent.path("other")).await;
        (agent, child)
    });
    for run in runs.await {
        for name in ["shell", "other"] {
            let pid = std::fs::read_to_string(run.agent.path(name)).unwrap();
            assert!(!crate::endings::runs(&pid), "{name} goes on");
        }
        assert_eq!(run.summary()["tool_calls"], 1);
    }
}

/// A server that says `called` when its tool is, and never answers or ends by itself.
const STUBBORN: &str = "import json, signal, sys\n\
    signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
    def send(id, it): print(json.dumps({'jsonrpc': '2.0', 'id': id, 'result': it}), flush=True)\n\
    for line in sys.stdin:\n\
    \x20   request = json.loads(line); method = request.get('method'); id = request.get('id')\n\
    \x20   if method == 'initialize': send(id, {'protocolVersion': '2024-11-05', 'capabilities': {'tools': {}}, 'serverInfo': {'name': 's', 'version': '1'}})\n\
    \x20   elif method == 'tools/list': send(id, {'tools': [{'name': 'act', 'inputSchema': {'type': 'object'}}]})\n\
    \x20   elif method == 'tools/call': open('called', 'w').write('yes\\n')\n\
    while True: signal.pause()\n";

#[tokio::test]
async fn in_a_call_of_an_mcp_server() {
    in_time(async || {
        let call = ("mcp__s__act", "{}".to_owned());
        let model = Model::start([Reply::Calls("", vec![call])]).await;
        let servers = json!({"s": {"command": "python3", "args": ["-c", STUBBORN]}});
        let agent = Agent::new(&model).prompt("go").file("mcp.json", &servers.to_string());
        let path = agent.path("mcp.json").display().to_string();
        let mut agent = agent.args(&["--mcp-config", &path]);
        let child = agent.spawn();
        wait_for(&agent.path("called")).await;
        (agent, child)
    })
    .await;
}

#[tokio::test]
async fn in_a_skill_that_works_apart_whose_turns_and_tokens_are_counted() {
    let runs = in_time(async || {
        let skill = "---\nname: look\ndescription: Looks\ncontext: fork\n---\nLook.\n";
        let call = ("Skill", json!({"skill": "look"}).to_string());
        let model = Model::start([
            Reply::Calls("", vec![call]),
            Reply::Calls("", vec![bash("true")]),
            Reply::Stalls("half"),
        ])
        .await;
        let agent = Agent::new(&model).prompt("go").file("SKILL.md", skill);
        let folder = agent.workspace.path().display().to_string();
        let mut agent = agent.args(&["--skills-dir", &folder]);
        let child = agent.spawn();
        model.asked(3).await;
        (agent, child)
    });
    for run in runs.await {
        let summary = run.summary();
        assert_eq!((&summary["turns"], &summary["tool_calls"]), (&json!(2), &json!(2)));
        assert_eq!(summary["input_tokens"], 200);
    }
}

/// A PDF whose page takes a while: very many pieces of text.
fn slow_pdf(path: &Path) {
    use lopdf::{Document, Object, Stream, dictionary};
    let mut document = Document::with_version("1.5");
    let tree = document.new_object_id();
    let content = Stream::new(dictionary! {}, b"BT (a) Tj ET\n".repeat(1_000_000));
    let content = document.add_object(content);
    let page = document.add_object(
        dictionary! {"Type" => "Page", "Parent" => tree, "Contents" => content, "Resources" => dictionary! {}},
    );
    let pages = dictionary! {"Type" => "Pages", "Kids" => vec![Object::from(page)], "Count" => 1};
    document.objects.insert(tree, pages.into());
    let catalog = document.add_object(dictionary! {"Type" => "Catalog", "Pages" => tree});
    document.trailer.set("Root", catalog);
    document.save(path).unwrap();
}

/// The process that reads a PDF for this agent.
async fn reader_of_pdf(agent: Pid) -> Pid {
    let children = format!("/proc/{pid}/task/{pid}/children", pid = agent.as_raw_nonzero());
    for _ in 0..6_000 {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        let of_threads = std::fs::read_dir(format!("/proc/{}/task", agent.as_raw_nonzero()));
        let more = of_threads
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let all: Vec<String> = more.chain([pids]).collect();
        let found = all.iter().flat_map(|it| it.split_whitespace()).find(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains("--internal-read-pdf")
        });
        if let Some(pid) = found {
            return Pid::from_raw(pid.parse().unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("nothing reads the PDF");
}

#[tokio::test]
async fn while_a_pdf_is_read_by_a_process_that_hangs() {
    in_time(async || {
        let call = ("Read", json!({"file_path": "slow.pdf"}).to_string());
        let model = Model::start([Reply::Calls("", vec![call]), Reply::Hangs]).await;
        let mut agent = Agent::new(&model).prompt("go");
        slow_pdf(&agent.path("slow.pdf"));
        let child = agent.spawn();
        let reader = reader_of_pdf(pid(&child)).await;
        // From here on it makes no headway, and heeds nothing but SIGKILL.
        let _ = kill_process(reader, Signal::STOP);
        (agent, child)
    })
    .await;
}

#[tokio::test]
async fn in_the_pause_before_a_retry() {
    in_time(async || {
        let model = Model::start([Reply::Later(503, "90")]).await;
        let mut agent = Agent::new(&model).prompt("go");
        let child = agent.spawn();
        noted(&agent, "retry").await;
        (agent, child)
    })
    .await;
}

#[tokio::test]
async fn between_the_prompts_of_a_conversation() {
    let runs = in_time(async || {
        let model = Model::start([Reply::Text("One.")]).await;
        let mut agent = Agent::new(&model).prompt("a").args(&["--multi-turn"]);
        agent.command().stdin(Stdio::piped());
        let mut child = agent.spawn();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut answer = String::new();
        stdout.read_line(&mut answer).await.unwrap();
        assert_eq!(answer, "One.\n");
        (agent, child)
    });
    for run in runs.await {
        assert_eq!(run.summary()["turns"], 1);
    }
}

#[tokio::test]
async fn while_the_prompt_is_read_from_stdin() {
    in_time(async || {
        let model = Model::start([]).await;
        let mut agent = Agent::new(&model);
        agent.command().stdin(Stdio::piped());
        let mut child = agent.spawn();
        child.stdin.as_mut().unwrap().write_all(b"half a prom").await.unwrap();
        noted(&agent, "start").await;
        (agent, child)
    })
    .await;
}

/// Bytes that wait in a pipe.
fn waiting(pipe: &impl std::os::fd::AsFd) -> u64 {
    rustix::io::ioctl_fionread(pipe).unwrap()
}

/// Its own event loop can't help here: the agent's thread is stuck in a write that nobody reads.
#[tokio::test]
async fn while_nobody_reads_what_it_says() {
    let mut tries = 0;
    loop {
        let model = Model::answering(|_, _| Reply::Calls("busy", vec![bash("true")])).await;
        let mut agent = Agent::new(&model).prompt("go").args(&["--max-turns", "100000"]);
        let mut child = agent.spawn();
        let stderr = child.stderr.take().unwrap();
        let size = rustix::pipe::fcntl_setpipe_size(&stderr, 4_096).unwrap() as u64;
        // Full but for less than a line, so that the next one does not fit.
        while waiting(&stderr) + 10 < size {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (run, elapsed) = end(agent, child, Signal::TERM).await;
        drop(stderr);
        assert_in_order(&run, 143);
        assert!(run.summary()["turns"].as_u64().unwrap() > 1);
        if elapsed < PROMISE {
            return;
        }
        tries += 1;
        assert!(tries < TRIES, "it took {elapsed:?}");
    }
}

#[tokio::test]
async fn while_nobody_reads_its_answer() {
    let mut tries = 0;
    loop {
        let answer: &'static str = "x".repeat(300_000).leak();
        let model = Model::start([Reply::Text(answer)]).await;
        let mut agent = Agent::new(&model).prompt("a").args(&["--multi-turn"]);
        agent.command().stdin(Stdio::piped());
        let mut child = agent.spawn();
        let stdout = child.stdout.take().unwrap();
        while waiting(&stdout) < 60_000 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (run, elapsed) = end(agent, child, Signal::TERM).await;
        drop(stdout);
        assert_in_order(&run, 143);
        if elapsed < PROMISE {
            return;
        }
        tries += 1;
        assert!(tries < TRIES, "it took {elapsed:?}");
    }
}

#[tokio::test]
async fn the_end_of_its_time_is_kept_also_where_nobody_reads() {
    let model = Model::answering(|_, _| Reply::Calls("busy", vec![bash("true")])).await;
    let limits = ["--max-turns", "100000", "--timeout", "1.5"];
    let mut agent = Agent::new(&model).prompt("go").args(&limits);
    let mut child = agent.spawn();
    let stderr = child.stderr.take().unwrap();
    rustix::pipe::fcntl_setpipe_size(&stderr, 4_096).unwrap();
    let status = child.wait().await.unwrap();
    drop(stderr);
    let output = std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() };
    let run = agent.finished(output);
    assert_eq!((run.code, run.summary()["outcome"].as_str()), (Some(5), Some("timed_out")));
    assert_eq!(run.events().pop().unwrap()["event"], "end");
}
