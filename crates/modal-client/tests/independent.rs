//! The client against an implementation whose wire code is not ours: `independent/server.py` stands on the stubs of the
//! official Python package and on grpclib. It runs commands for real, breaks a build log, loses the answer of a
//! create, and its router has a certificate of its own making behind a wire that is cut again and again.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "../../modal-proto/tests/support/sdk.rs"]
#[allow(dead_code, reason = "only the interpreter is used here")]
mod sdk;
mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::TryStreamExt as _;
use modal_client::{App, BuiltImage, Client, Config, ExitReason, Image, Secret};
use support::{
    breaker::{Breaker, breaker},
    spans::Spans,
};
use tokio::io::AsyncWriteExt as _;

/// A connection to the router is cut after so many bytes; one write has up to a mebibyte.
const CUT: u64 = 1_300_000;
const MIB: usize = 1024 * 1024;

/// The server, which ends with its standard input, and what the test needs to reach it.
struct Server {
    client: Client,
    wire: Breaker,
    process: Child,
    input: Option<ChildStdin>,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // For another name than it is reached by: nothing about it is looked at but its key.
        let made = rcgen::generate_simple_self_signed(["router.invalid".to_owned()]).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent/server.py");
        let mut process = Command::new(sdk::interpreter())
            .arg(script)
            .args([directory.path(), &path("cert.pem"), &path("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let ports: serde_json::Value =
            serde_json::from_str(&first).expect("the server did not start");
        let wire = breaker(&format!("http://127.0.0.1:{}", ports["router"]), CUT, 200).await;
        let mut input = process.stdin.take().unwrap();
        let router = wire.url.replace("http://", "https://");
        writeln!(input, "{}", serde_json::json!({ "router": router })).unwrap();
        let url = format!("http://127.0.0.1:{}", ports["control"]);
        let config = Config::new(&url, "ak-independent", "as-independent");
        let client = Client::connect(config).await.unwrap();
        Self { client, wire, process, input: Some(input), _directory: directory }
    }

    async fn built(&self) -> (App, BuiltImage) {
        let app = self.client.app("demo").create_if_missing().await.unwrap();
        let image = self.client.build(&Image::debian_slim(), &app).await.unwrap();
        (app, image)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_and_secrets() {
    let server = Server::start().await;
    let client = &server.client;
    assert!(client.app("demo").await.unwrap_err().is_not_found());
    let app = client.app("demo").create_if_missing().await.unwrap();
    assert_eq!(client.app("demo").await.unwrap(), app);
    assert_eq!(client.apps().list().await.unwrap()[0].id, app.id);
    client.secrets().create("keys", [("A", "1")], modal_client::IfExists::Fail).await.unwrap();
    let again = client.secrets().create("keys", [("A", "1")], modal_client::IfExists::Fail).await;
    assert!(again.unwrap_err().is_already_exists());
    let missing = client.secrets().get_with_keys("keys", &["B"]).await.unwrap_err();
    assert!(
        missing.is_conflict() && missing.server_status().unwrap().message.contains("missing key")
    );
    assert_eq!(client.secrets().list().await.unwrap()[0].keys, ["A"]);
}

#[tokio::test]
async fn a_volume_takes_files_in_blocks_and_gives_them_back() {
    let server = Server::start().await;
    let volume = server.client.volume("data").create_if_missing().await.unwrap();
    // Two blocks and a piece, the middle one of zeros alone; a file of the same first block; an empty one.
    let mut big: Vec<u8> = (0..8 * MIB).map(|n| (n % 251) as u8 + 1).collect();
    let first = big.clone();
    big.resize(16 * MIB, 0);
    big.extend_from_slice(b"the end\0\0\0");
    let upload =
        volume.upload().bytes(big.clone(), "/big").bytes(first, "same/first").bytes("", "empty");
    let (spans, guard) = Spans::collect();
    let summary = upload.await.unwrap();
    assert!(spans.is_closed("http PUT") && spans.is_closed("rpc VolumePutFiles2"));
    drop(guard);
    assert_eq!(summary.files, 3);
    assert_eq!(
        summary.bytes_sent,
        (8 * MIB + "the end".len()) as u64,
        "zeros and known blocks stay"
    );
    let paths: Vec<_> = volume
        .list("/")
        .recursive(true)
        .stream()
        .map_ok(|entry| entry.path)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(paths, ["big", "empty", "same/first"]);
    assert!(volume.read("big").bytes().await.unwrap() == big);
    let range = 8 * MIB - 3..16 * MIB + 4;
    let part =
        volume.read("big").range(range.start as u64..range.end as u64).bytes().await.unwrap();
    assert!(part == big[range]);
    assert!(volume.read("empty").bytes().await.unwrap().is_empty());
    assert!(volume.read("nope").bytes().await.unwrap_err().is_not_found());
    let again = volume.upload().bytes("other", "/big").await.unwrap_err();
    assert!(again.is_already_exists(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_followed_over_a_break_and_found_again() {
    let server = Server::start().await;
    let app = server.client.app("demo").create_if_missing().await.unwrap();
    let image = Image::debian_slim().run_commands(["echo one", "echo two"]);
    let printed = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&printed);
    let build = server.client.build(&image, &app);
    let built = build.on_log(move |text| kept.lock().unwrap().push_str(text)).await.unwrap();
    let text = std::mem::take(&mut *printed.lock().unwrap());
    assert_eq!(text.matches("RUN echo one").count(), 1, "{text}");
    assert_eq!(text.matches("RUN echo two").count(), 1, "{text}");
    assert_eq!(server.client.build(&image, &app).await.unwrap(), built);
    assert!(printed.lock().unwrap().is_empty(), "nothing is built twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_every_byte_over_a_wire_that_is_cut() {
    let server = Server::start().await;
    let (app, image) = server.built().await;
    let secret = Secret::from_map([("GREETING", "hello")]);
    let create =
        server.client.sandbox(&app, &image).command(["sh", "-c", "echo $GREETING; exec cat"]);
    let sandbox = create.secret(&secret).name("one").tag("k", "v").create().await.unwrap();
    // The answer of the create was lost once; the second attempt made no second sandbox.
    assert_eq!(server.client.sandboxes().list().await.unwrap().len(), 1);

    let mut process = sandbox.exec(["sh", "-c", "cat; echo done >&2; exit 3"]).await.unwrap();
    let sent: Vec<u8> = (0..4_000_000).map(|n| (n % 253) as u8).collect();
    let mut input = process.take_stdin().unwrap();
    let writing = async {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    };
    let ((), output) = tokio::join!(writing, process.output());
    let output = output.unwrap();
    assert!(output.stdout == sent, "{} of {} bytes came", output.stdout.len(), sent.len());
    assert_eq!((output.stderr.as_slice(), output.code), (&b"done\n"[..], 3));
    assert!(server.wire.cuts.load(Ordering::SeqCst) >= 3, "the wire was not cut");

    let killed = sandbox.exec(["sh", "-c", "kill -9 $$"]).await.unwrap();
    assert_eq!(killed.wait().await.unwrap(), 137);
    assert!(sandbox.exec(["/no/such/program"]).await.unwrap_err().is_not_found());

    sandbox.stdin().finish("typed").await.unwrap();
    assert_eq!(sandbox.wait().await.unwrap().code, 0);
    assert_eq!(sandbox.stdout().read_text().await.unwrap(), "hello\ntyped");
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_found_listed_and_terminated() {
    let server = Server::start().await;
    let (app, image) = server.built().await;
    let create = |name: &str, tag: &str| {
        server.client.sandbox(&app, &image).command(["sleep", "600"]).name(name).tag("team", tag)
    };
    let (one, two) =
        (create("one", "a").create().await.unwrap(), create("two", "b").create().await.unwrap());
    let sandboxes = server.client.sandboxes();
    let listed = sandboxes.list().await.unwrap();
    assert_eq!(listed.iter().map(|info| &info.id).collect::<Vec<_>>(), [two.id(), one.id()]);
    let tagged = sandboxes.list().tag("team", "a").await.unwrap();
    assert_eq!(tagged.iter().map(|info| &info.id).collect::<Vec<_>>(), [one.id()]);
    assert_eq!(sandboxes.from_name("demo", "two").await.unwrap().id(), two.id());
    let older = sandboxes.from_name("demo", "of-version-1").await.unwrap();
    assert_eq!(older.id().as_str(), "sb-0123456789abcdefghijAB");
    assert!(sandboxes.from_name("demo", "three").await.unwrap_err().is_not_found());
    assert!(sandboxes.from_id(&"sb-9".parse().unwrap()).await.unwrap_err().is_not_found());
    assert_eq!(one.poll().await.unwrap(), None);
    let exit = one.terminate_and_wait().await.unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    assert_eq!(sandboxes.from_id(one.id()).await.unwrap().poll().await.unwrap(), Some(exit));
    assert_eq!(sandboxes.list().await.unwrap().len(), 1);
    two.terminate().await.unwrap();
}
