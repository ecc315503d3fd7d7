//! Servers that break the rules of the wire: what they send is written byte by byte. Each conversation is played
//! against the real agent, and rebuilt from its transcript.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    replay::rebuilt,
    support::{Agent, Finished, KEY},
};

/// What a server does with a request, step by step; at the end it closes the connection in good order.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    /// Byte by byte, each in a packet of its own.
    Trickle(Vec<u8>),
    /// Ends the connection with a reset.
    Reset,
    /// Says nothing more and keeps the connection open.
    Hold,
    /// Takes a moment, and notes whether the other end has hung up meanwhile.
    Linger,
}

/// A request as it arrived: its first line, and its body.
type Seen = (String, Value);

/// A server that answers each request with the next of its scripts.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Lingers that found the connection closed.
    hung_up: Arc<AtomicUsize>,
}

impl Server {
    async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let noted = Arc::clone(&seen);
        let hung_up = Arc::<AtomicUsize>::default();
        let found = Arc::clone(&hung_up);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((mut connection, _)) = listener.accept().await {
                let request = read_request(&mut connection).await;
                noted.lock().unwrap().push(request);
                let script = scripts.next().unwrap_or_default();
                tokio::spawn(play(connection, script, Arc::clone(&found)));
            }
        });
        Server { url, seen, hung_up }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(connection: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = connection.read(&mut piece).await.unwrap_or(0);
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(count > 0, "half a request: {text}");
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            let first = head.lines().next().unwrap().to_owned();
            return (first, serde_json::from_str(body).unwrap_or_default());
        }
    }
}

async fn play(mut connection: TcpStream, script: Vec<Step>, hung_up: Arc<AtomicUsize>) {
    for step in script {
        match step {
            Step::Send(bytes) => {
                let _ = connection.write_all(&bytes).await;
            }
            Step::Trickle(bytes) => {
                let _ = connection.set_nodelay(true);
                for byte in bytes {
                    let _ = connection.write_all(&[byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Step::Reset => {
                // What was sent has to arrive before the reset throws it away.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = connection.set_zero_linger();
                return;
            }
            Step::Hold => std::future::pending().await,
            Step::Linger => {
                let mut byte = [0];
                let closed = connection.read(&mut byte);
                if tokio::time::timeout(Duration::from_millis(50), closed).await.is_ok() {
                    hung_up.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
    let _ = connection.shutdown().await;
}

fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    (head + "\r\n").into_bytes()
}

fn answer(kind: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [&head("200 OK", &[("content-type", kind)]), body.as_ref()].concat()
}

fn events(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("text/event-stream", body)
}

fn delta(delta: Value) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    )
}

fn stop(reason: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    )
}

fn said(text: &str) -> String {
    delta(json!({"content": text})) + &stop("stop")
}

const DONE: &str = "data: [DONE]\n\n";

fn ok() -> Vec<Step> {
    vec![Step::Send(events(said("ok") + DONE))]
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

async fn run(scripts: Vec<Vec<Step>>) -> (Finished, Server) {
    let server = Server::start(scripts).await;
    let run = Agent::at(&server.url).prompt("go").args(&["--timeout", "60"]).run().await;
    assert!(!run.everything().contains(KEY));
    assert_eq!(run.leftovers(), Vec::<String>::new());
    (run, server)
}

/// Plays the scripts and wants this answer, by the one request that succeeds.
async fn gives(name: &str, wanted: &str, scripts: Vec<Vec<Step>>) -> Finished {
    let count = scripts.len();
    let (run, server) = run(scripts).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), wanted), "{name}: {}", run.stderr);
    let mut sent: Vec<Value> = server.seen().into_iter().map(|(_, body)| body).collect();
    assert_eq!(sent.len(), count, "{name}");
    sent.dedup();
    assert_eq!(rebuilt(&run.events()), sent, "{name}");
    run
}

#[tokio::test]
async fn an_answer_is_read_however_it_is_cut_and_wrapped() {
    let text = "grüezi 🐐";
    let stream = ": hi\n\n".to_owned() + &said(text) + DONE;
    let whole = json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
    let parts = delta(
        json!({"content": [{"type": "text", "text": "grüezi "}, {"type": "text", "text": "🐐"}]}),
    );
    let chunked = |body: &str| {
        let mut packed = head(
            "200 OK",
            &[("transfer-encoding", "chunked"), ("content-type", "text/event-stream")],
        );
        // Chunks of three bytes cut characters, words and line ends.
        for piece in body.as_bytes().chunks(3) {
            packed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            packed.extend_from_slice(piece);
            packed.extend_from_slice(b"\r\n");
        }
        packed.extend_from_slice(b"0\r\n\r\n");
        packed
    };
    let packed = |encoding: &str, body: Vec<u8>| {
        let head = head(
            "200 OK",
            &[("content-type", "text/event-stream"), ("content-encoding", encoding)],
        );
        [head, body].concat()
    };
    let keepalive =
        ": keepalive\n\n".repeat(5_000) + "event: ping\ndata: {\"type\": \"ping\"}\n\n" + &stream;
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("byte by byte", vec![Step::Trickle(events(&stream))]),
        ("in chunks", vec![Step::Send(chunked(&stream))]),
        ("CR alone", vec![Step::Send(events(stream.replace('\n', "\r")))]),
        ("CRLF", vec![Step::Send(events(stream.replace('\n', "\r\n")))]),
        ("byte order mark", vec![Step::Send(events(format!("\u{feff}{stream}")))]),
        (
            "no space, no role, no end mark",
            vec![Step::Send(events(said(text).replace("data: ", "data:")))],
        ),
        ("no end of the last event", vec![Step::Send(events(said(text).trim_end()))]),
        ("nothing between events", vec![Step::Send(events(stream.replace("\n\ndata", "\ndata")))]),
        ("kept alive", vec![Step::Send(events(keepalive))]),
        (
            "null choices",
            vec![Step::Send(events(format!("data: {{\"choices\": null}}\n\n{stream}")))],
        ),
        ("content as parts", vec![Step::Send(events(parts + &stop("stop") + DONE))]),
        (
            "garbage after the end mark",
            vec![Step::Send(events(format!("{stream}<!-- bye -->\u{0}")))],
        ),
        (
            "garbage after the answer",
            vec![Step::Send(events(said(text) + "data: <!-- bye -->\n\n"))],
        ),
        ("a reset after the answer", vec![Step::Send(events(said(text))), Step::Reset]),
        ("a reset after the end mark", vec![Step::Send(events(&stream)), Step::Reset]),
        ("open for ever after the end mark", vec![Step::Send(events(&stream)), Step::Hold]),
        ("open for ever after the answer", vec![Step::Send(events(said(text))), Step::Hold]),
        ("JSON in one piece", vec![Step::Send(answer("application/json", whole.to_string()))]),
        ("JSON that says it is events", vec![Step::Send(events(whole.to_string()))]),
        (
            "JSON of another kind",
            vec![Step::Send(answer("Text/Plain; charset=x", whole.to_string()))],
        ),
        ("events that say they are JSON", vec![Step::Send(answer("application/json", &stream))]),
        (
            "lines of JSON",
            vec![Step::Send(answer(
                "application/x-ndjson",
                stream.replace("data: ", "").replace("\n\n", "\n").replace(": hi\n", ""),
            ))],
        ),
        ("gzip", vec![Step::Send(packed("gzip", gzip(&stream)))]),
        ("gzip, byte by byte", vec![Step::Trickle(packed("x-gzip", gzip(&stream)))]),
    ];
    for (name, script) in cases {
        gives(name, text, vec![script]).await;
    }
}

#[tokio::test]
async fn what_breaks_is_asked_again() {
    let error = r#"{"error": {"message": "the queue is full", "code": "429"}}"#;
    let half = delta(json!({"content": "half"}));
    let short = [
        head("200 OK", &[("content-length", "5000"), ("content-type", "text/event-stream")]),
        said("x").into_bytes()[..20].to_vec(),
    ]
    .concat();
    let later =
        |when: &str| [head("529 Overloaded", &[("retry-after", when)]), b"{}".to_vec()].concat();
    let gone = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let cases: Vec<(&str, &str, Vec<Step>)> = vec![
        ("a reset in the stream", "broke off", vec![Step::Send(events(&half)), Step::Reset]),
        ("a reset at once", "", vec![Step::Reset]),
        ("an end in the stream", "ended before the answer did", vec![Step::Send(events(&half))]),
        ("an end in a character", "", vec![Step::Send(events(&said("🐐").as_bytes()[..60]))]),
        ("fewer bytes than said", "", vec![Step::Send(short)]),
        (
            "an error with 200",
            "the queue is full",
            vec![Step::Send(answer("application/json", error))],
        ),
        (
            "an error in the stream with 200",
            "the queue is full",
            vec![Step::Send(events(format!("{half}data: {error}\n\n")))],
        ),
        (
            "a page instead",
            "`<html><title>Log in</title></html>`",
            vec![Step::Send(answer("text/html", "<html><title>Log in</title></html>"))],
        ),
        (
            "nothing",
            "something else than an answer of a model: nothing",
            vec![Step::Send(gone.into())],
        ),
        (
            "a reason that is none",
            "ended before",
            vec![Step::Send(events(half.replace("null", "\"\"")))],
        ),
        ("no HTTP", "", vec![Step::Send(b"+OK POP3 ready\r\n".to_vec())]),
        (
            "broken gzip",
            "invalid gzip header",
            vec![Step::Send(
                [head("200 OK", &[("content-encoding", "gzip")]), b"not packed".to_vec()].concat(),
            )],
        ),
        (
            "529 with a date that is over",
            "529",
            vec![Step::Send(later("Wed, 21 Oct 2015 07:28:00 GMT"))],
        ),
        ("529 with nonsense", "529", vec![Step::Send(later("soon"))]),
        ("529 with a negative time", "529", vec![Step::Send(later("-5"))]),
    ];
    for (name, words, script) in cases {
        let run = gives(name, "ok", vec![script, ok()]).await;
        let retries = run.events_of("retry");
        assert_eq!(retries.len(), 1, "{name}");
        assert!(retries[0]["error"].as_str().unwrap().contains(words), "{name}: {}", retries[0]);
        assert!(retries[0]["delay_ms"].as_u64().unwrap() <= 500, "{name}: {}", retries[0]);
    }
}

#[tokio::test]
async fn what_no_retry_mends_ends_at_once() {
    let brotli = [head("200 OK", &[("content-encoding", "br")]), b"xyz".to_vec()].concat();
    let (finished, server) = run(vec![vec![Step::Send(brotli)]]).await;
    assert_eq!((finished.code, server.seen().len()), (Some(4), 1), "{}", finished.stderr);
    assert!(finished.stderr.contains("packs its answer as `br`"), "{}", finished.stderr);
}

#[tokio::test]
async fn redirects_are_followed_to_the_same_server_alone() {
    let to = |status: &str, place: &str| {
        vec![Step::Send(head(status, &[("location", place), ("content-length", "0")]))]
    };
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let (run, server) = run(vec![to(status, "/elsewhere"), ok()]).await;
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "ok"), "{}", run.stderr);
        let seen = server.seen();
        assert_eq!(seen[1].0, "POST /elsewhere HTTP/1.1");
        assert_eq!(seen[1].1, seen[0].1);
    }
    // So Modal hands over what takes long: the answer is fetched, not asked for again.
    let (fetched, server) = run(vec![to("303 See Other", "/result?id=1"), ok()]).await;
    assert_eq!((fetched.code, fetched.stdout.as_str()), (Some(0), "ok"), "{}", fetched.stderr);
    assert_eq!(server.seen()[1].0, "GET /result?id=1 HTTP/1.1");
    // Another port of the same machine is another server.
    let other = Server::start(vec![ok()]).await;
    let place = format!("{}/chat/completions", other.url);
    let (run, server) = run(vec![to("307 Temporary Redirect", &place)]).await;
    assert_eq!((run.code, server.seen().len(), other.seen().len()), (Some(4), 1, 0));
    assert!(run.stderr.contains("redirected to another server"), "{}", run.stderr);
}

#[tokio::test]
async fn an_answer_that_speaks_of_calls_without_any_is_asked_about() {
    let lost = said("I will look.").replace("\"stop\"", "\"tool_calls\"") + DONE;
    let script = || vec![Step::Send(events(&lost))];
    let run = gives("a lost call", "ok", vec![script(), ok()]).await;
    let asked: Vec<Value> =
        run.events_of("message").into_iter().filter(|it| it["role"] == "user").collect();
    assert!(asked[1]["content"].as_str().unwrap().contains("no call came with it"));
    // Whoever says the same again means it.
    gives("twice", "I will look.", vec![script(), script()]).await;
}

#[tokio::test]
async fn thoughts_alone_are_no_answer() {
    let thought = delta(json!({"reasoning_content": "hm", "content": null})) + &stop("stop") + DONE;
    let run = gives("thoughts", "ok", vec![vec![Step::Send(events(thought))], ok()]).await;
    assert_eq!(run.events_of("message")[2]["reasoning"], "hm");
}

#[tokio::test]
async fn calls_are_told_apart_whatever_is_missing_or_twice() {
    let call = |call: Value| delta(json!({"tool_calls": [call]}));
    let bash = |word: &str| format!("{{\"command\": \"echo {word}\"}}");
    let (one, two) = (bash("one"), bash("two"));
    let cases: Vec<(&str, String)> = vec![
        (
            "no index, same id",
            call(json!({"id": "x", "function": {"name": "Bash", "arguments": one}}))
                + &call(json!({"id": "x", "function": {"name": "Bash", "arguments": two}})),
        ),
        (
            "same index, same id",
            call(json!({"index": 0, "id": "x", "function": {"name": "Bash", "arguments": one}}))
                + &call(
                    json!({"index": 0, "id": "x", "function": {"name": "Bash", "arguments": two}}),
                ),
        ),
        (
            "other index, same id",
            call(json!({"index": 0, "id": "x", "function": {"name": "Bash", "arguments": one}}))
                + &call(
                    json!({"index": 1, "id": "x", "function": {"name": "Bash", "arguments": two}}),
                ),
        ),
        (
            "index from 1, no id, no type",
            call(json!({"index": 1, "function": {"name": "Bash", "arguments": one}}))
                + &call(json!({"index": 2, "function": {"name": "Bash", "arguments": two}})),
        ),
        (
            "objects",
            call(
                json!({"index": 0, "id": "x", "function": {"name": "Bash", "arguments": {"command": "echo one"}}}),
            ) + &call(
                json!({"index": 1, "id": "y", "function": {"name": "Bash", "arguments": {"command": "echo two"}}}),
            ),
        ),
        (
            "pieces after the other call began",
            call(
                json!({"index": 0, "id": "x", "function": {"name": "Bash", "arguments": one[..9]}}),
            ) + &call(
                json!({"index": 1, "id": "y", "function": {"name": "Bash", "arguments": two}}),
            ) + &call(json!({"index": 0, "function": {"arguments": one[9..]}})),
        ),
        (
            "no function around it",
            call(json!({"index": 0, "id": "x", "name": "Bash", "arguments": one}))
                + &call(json!({"index": 1, "id": "y", "name": "Bash", "arguments": two})),
        ),
    ];
    for (name, calls) in cases {
        let first = vec![Step::Send(events(calls + &stop("tool_calls") + DONE))];
        let run = gives(name, "ok", vec![first, ok()]).await;
        let results = run.events_of("tool_result");
        let outputs: Vec<&str> = results
            .iter()
            .map(|it| it["output"].as_str().unwrap().lines().nth(1).unwrap())
            .collect();
        assert_eq!(outputs, ["one", "two"], "{name}");
        assert_ne!(results[0]["id"], results[1]["id"], "{name}");
    }
}

#[tokio::test]
async fn thousands_of_calls_are_cut_off_and_every_one_has_its_result() {
    let mut calls = String::new();
    for index in 0..1_000 {
        let name = if index % 2 == 0 { "no_such_tool" } else { "Glob" };
        let function = json!({"name": name, "arguments": "{\"pattern\": \"*.none\"}"});
        calls += &delta(
            json!({"tool_calls": [{"index": index, "id": format!("c{index}"), "function": function}]}),
        );
    }
    let first = vec![Step::Send(events(calls + &stop("tool_calls") + DONE))];
    let run = gives("thousands", "ok", vec![first, ok()]).await;
    let results = run.events_of("tool_result");
    assert_eq!((results.len(), run.summary()["tool_calls"].as_u64()), (1_000, Some(128)));
    assert!(results[127]["output"].as_str().unwrap().contains("No files match"));
    assert!(results[999]["output"].as_str().unwrap().contains("only the first 128 calls"));
}

#[tokio::test]
async fn huge_arguments_arrive_whole() {
    let text = "0123456789abcde\n".repeat(400_000);
    let arguments = json!({"file_path": "big.txt", "content": text}).to_string();
    let mut calls = delta(
        json!({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "Write", "arguments": ""}}]}),
    );
    let (half, rest) = arguments.split_at(arguments.len() / 2);
    for piece in [half, rest] {
        calls += &delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}));
    }
    let first = vec![Step::Send(events(calls + &stop("tool_calls") + DONE))];
    let (run, _) = run(vec![first, ok()]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "ok"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(run.agent.path("big.txt")).unwrap(), text);
}

#[tokio::test]
async fn a_body_that_is_too_large_makes_the_conversation_shorter() {
    let flood = json!({"command": "seq 1 5000"}).to_string();
    let call = delta(
        json!({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "Bash", "arguments": flood}}]}),
    );
    let first = vec![Step::Send(events(call + &stop("tool_calls") + DONE))];
    let refused =
        vec![Step::Send([head("413 Payload Too Large", &[]), b"<h1>413</h1>".to_vec()].concat())];
    let (run, server) = run(vec![first, refused.clone(), refused, ok()]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "ok"), "{}", run.stderr);
    let sizes: Vec<usize> = server.seen().iter().map(|(_, body)| body.to_string().len()).collect();
    assert!(sizes[3] < sizes[1], "{sizes:?}");
    assert!(!run.events_of("compaction").is_empty());
    let sent: Vec<Value> = server.seen().into_iter().map(|(_, body)| body).collect();
    assert_eq!(rebuilt(&run.events()), sent);
}

#[tokio::test]
async fn nobody_is_hung_up_on_who_takes_a_moment_to_end_an_answer() {
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n", body.len()).into_bytes();
    let head =
        head("200 OK", &[("transfer-encoding", "chunked"), ("content-type", "text/event-stream")]);
    let body = chunked(&(said("ok") + DONE));
    let script =
        vec![Step::Send([head, body].concat()), Step::Linger, Step::Send(b"0\r\n\r\n".to_vec())];
    let (run, server) = run(vec![script]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "ok"), "{}", run.stderr);
    assert_eq!(server.hung_up.load(Ordering::Relaxed), 0);
}
