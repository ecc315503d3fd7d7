//! The same jobs as in `fixtures/wire`, with our client: every request must be the one that the
//! official SDK sent, field by field, with the same headers and deadlines.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use modal_client::{
    Arguments, Autoscaling, Client, FunctionSpec, Image, MiB, NetworkAccess, Port, Pty, Redirect,
    Retries, SandboxVersion, Schedule, Secret, Volume, VolumeMount, VolumeVersion, Web,
};
use tokio::io::AsyncWriteExt as _;
use wire_replay::{Exceptions, Replay};

/// Why an output is asked for otherwise.
const BY_INDEX: &str = "Python's SDK names the output by its index, as we do";

/// Why arguments differ in their bytes.
const ENCODED: &str =
    "the same value in the shortest CBOR, while JavaScript writes the length of a map in two bytes";

async fn replay(name: &str, exceptions: Exceptions) -> (Replay, Client) {
    let replay = Replay::start(name, exceptions).await;
    let client = support::client(&replay.url).await;
    (replay, client)
}

/// A local file or directory with the contents that the recordings were made with.
fn local() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("hello.txt"), "hello wire\n").unwrap();
    std::fs::create_dir(directory.path().join("ctx")).unwrap();
    std::fs::write(directory.path().join("ctx/app.py"), "print(\"app\")\n").unwrap();
    directory
}

#[tokio::test]
async fn environments() {
    let (replay, client) = replay("01_environment", &[]).await;
    let environments = client.environments();
    assert_eq!(environments.list().await.unwrap().len(), 1);
    environments.create("dev").await.unwrap();
    assert_eq!(environments.list().await.unwrap()[1].name, "dev");
    environments.delete("dev").await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
#[should_panic(
    expected = "EnvironmentCreate:\n  ours [{\"name\":\"other\"}]\n  SDK  [{\"name\":\"dev\"}]"
)]
async fn a_request_that_differs_is_found() {
    let (replay, client) = replay("01_environment", &[]).await;
    client.environments().create("other").await.unwrap();
    replay
        .finish(&[("EnvironmentList", "", "not called"), ("EnvironmentDelete", "", "not called")]);
}

#[tokio::test]
async fn apps() {
    let (replay, client) = replay("05_app", &[]).await;
    let app = client.app("my-app").create_if_missing().await.unwrap();
    assert_eq!(client.app("my-app").await.unwrap(), app);
    assert!(client.app("missing-app").await.unwrap_err().is_not_found());
    assert_eq!(client.apps().list().await.unwrap()[0].id, app.id);
    let named = client.apps().by_name("my-app").await.unwrap();
    client.apps().stop(&named.id).await.unwrap();
    assert!(client.apps().list().await.unwrap().is_empty());
    replay.finish(&[]);
}

#[tokio::test]
async fn volumes() {
    let exceptions: Exceptions =
        &[("VolumeList", "/pagination/created_before", "the clock of the moment")];
    let (replay, client) = replay("04_volume_v2", exceptions).await;
    let local = local();
    let hello = local.path().join("hello.txt");
    client.volume("vol-cli").create().await.unwrap();
    assert_eq!(client.volumes().list().await.unwrap()[0].name, "vol-cli");
    // Modal's command line looks the volume up for each command.
    let volume = async || client.volume("vol-cli").await.unwrap();
    volume().await.upload().file(&hello, "/hello.txt").await.unwrap();
    let exists = volume().await.upload().file(&hello, "/hello.txt").await.unwrap_err();
    assert!(exists.is_already_exists(), "{exists:?}");
    volume().await.upload().file(&hello, "/hello.txt").overwrite(true).await.unwrap();
    volume().await.upload().tree(local.path().join("ctx"), "/dir").await.unwrap();
    assert_eq!(volume().await.list("/").await.unwrap().len(), 4);
    volume().await.list("/dir").stream().try_collect::<Vec<_>>().await.unwrap();
    let found = volume().await;
    assert_eq!(found.list("hello.txt").recursive(true).await.unwrap()[0].size, 11);
    assert_eq!(found.read("hello.txt").bytes().await.unwrap(), "hello wire\n");
    volume().await.copy(["hello.txt"], "hello2.txt", false).await.unwrap();
    volume().await.remove("hello.txt").await.unwrap();
    let other = client.volume("vol-py").create_if_missing().await.unwrap();
    let batch = other.upload().bytes_with_mode("in memory", "/mem.txt", 0o600);
    batch.file(&hello, "/a/hello.txt").tree(local.path().join("ctx"), "/ctx").await.unwrap();
    assert_eq!(other.list("/").recursive(true).await.unwrap().len(), 3);
    assert_eq!(other.read("mem.txt").bytes().await.unwrap(), "in memory");
    other.list("/").recursive(true).await.unwrap();
    other.remove("mem.txt").await.unwrap();
    assert!(other.read("nope.txt").await.unwrap_err().is_not_found());
    volume().await.rename("vol-new").await.unwrap();
    client.volume("vol-new").await.unwrap().delete().await.unwrap();
    replay.finish(&[
        ("VolumeGetOrCreate", "vol-cli", "looked up for the two files of random bytes"),
        ("VolumePutFiles2", "/big/", "random bytes that nobody kept"),
        ("VolumeListFiles2", "five_mib", "random bytes that nobody kept"),
        ("VolumeGetFile2", "five_mib", "random bytes that nobody kept"),
    ]);
}

#[tokio::test]
async fn debian_images() {
    let (replay, client) = replay("06_image_debian", &[]).await;
    let local = local();
    let app = client.app("image-app").create_if_missing().await.unwrap();
    let image = Image::debian_slim()
        .python("3.12")
        .apt_install(["git", "curl"])
        .pip_install(["requests==2.32.3", "rich"])
        .copy_local_file(local.path().join("hello.txt"), "/opt/hello.txt")
        .run_commands(["echo hi", "cat /opt/hello.txt"])
        .with_secret(Secret::from_map([("BUILD_TOKEN", "t")]))
        .env([("FOO", "bar"), ("QUOTED", "a \"b\" $c")])
        .workdir("/opt")
        .entrypoint(["/bin/sh", "-c"])
        .cmd(["echo", "x"]);
    let (lines, printed) = std::sync::mpsc::channel();
    let build = client.build(&image, &app).on_log(move |text| lines.send(text.to_owned()).unwrap());
    assert_eq!(build.await.unwrap().id.as_str(), "im-9");
    assert_eq!(printed.iter().filter(|text| text == "build finished\n").count(), 9);
    replay.finish(&[]);
}

#[tokio::test]
async fn registry_images() {
    let (replay, client) = replay("07_image_registry", &[]).await;
    let app = client.app("image-app").create_if_missing().await.unwrap();
    let uv = [
        "COPY --from=ghcr.io/astral-sh/uv:latest /uv /.uv/uv",
        "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode --torch-backend=auto 'huggingface_hub[hf_transfer]' vllm==0.10.0",
    ];
    let image = Image::from_registry("nvidia/cuda:12.8.1-devel-ubuntu22.04")
        .add_python("3.12")
        .entrypoint(Vec::<String>::new())
        .dockerfile_commands(uv)
        .env([("HF_HUB_ENABLE_HF_TRANSFER", "1")]);
    let built = client.build(&image, &app).await.unwrap();
    client.build(&Image::from_registry("ubuntu:22.04"), &app).await.unwrap();
    let login = Secret::from_map([("REGISTRY_USERNAME", "u"), ("REGISTRY_PASSWORD", "p")]);
    let private =
        Image::from_registry("myreg.example.com/x:1").registry_secret(login).add_python("3.11");
    client.build(&private, &app).await.unwrap();
    let login = Secret::from_map([("AWS_ACCESS_KEY_ID", "a")]);
    let ecr = Image::from_registry("000000000000.dkr.ecr.us-east-1.amazonaws.com/r:v1");
    client.build(&ecr.registry_secret(login).add_python("3.12"), &app).await.unwrap();
    assert_eq!(client.build(&Image::from_id(built.id.clone()), &app).await.unwrap(), built);
    replay.finish(&[]);
}

/// The app of `09_deploy.jsonl`. `source` has the name and the bytes of the recorded one.
fn wire_deploy(client: &Client, name: &str, parts: &DeployParts) -> modal_client::Deploy {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let image = Image::debian_slim()
        .python("3.12")
        .pip_install(["requests==2.32.3"])
        .add_local_file(&parts.hello, "/opt/hello.txt");
    let gpu_image = Image::from_registry("nvidia/cuda:12.8.1-devel-ubuntu22.04")
        .add_python("3.12")
        .entrypoint(Vec::<String>::new())
        .uv_pip_install(["vllm==0.10.0"]);
    let function = |name: &str| FunctionSpec::from_file(&parts.source, name, &image);
    let proxy = function("proxy")
        .secret(&parts.secret)
        .secret(&Secret::from_map([("INLINE", "1")]))
        .volume("/config", VolumeMount::new(&parts.volumes[0]))
        .autoscaling(Autoscaling::default().min(1).max(3))
        .timeout(hours(24))
        .memory(MiB(2048), None)
        .cpu(1.0, None)
        .concurrent_inputs(1000)
        .web(Web::server(4000).startup_timeout(minutes(5)));
    let serve = FunctionSpec::from_file(&parts.source, "serve", &gpu_image)
        .gpu("H100:1".parse().unwrap())
        .autoscaling(Autoscaling::default().scaledown_window(minutes(15)))
        .timeout(minutes(10))
        .volume("/root/.cache/huggingface", VolumeMount::new(&parts.volumes[1]))
        .volume("/root/.cache/vllm", VolumeMount::new(&parts.volumes[2]))
        .volume("/root/.cache/flashinfer", VolumeMount::new(&parts.volumes[3]))
        .concurrent_inputs(32)
        .web(Web::server(8000).startup_timeout(minutes(10)));
    let square = function("square").retries(Retries::new(2)).region("us-east");
    let cron = function("cron").schedule(Schedule::Every(hours(1)));
    let endpoint = function("endpoint").web(Web::endpoint("POST").docs(true));
    client
        .deploy(name)
        .tag("team", "wire")
        .function(proxy)
        .function(square)
        .function(cron)
        .function(endpoint)
        .function(serve)
}

struct DeployParts {
    hello: std::path::PathBuf,
    source: std::path::PathBuf,
    secret: Secret,
    volumes: Vec<Volume>,
}

#[tokio::test]
async fn deployments() {
    let exceptions: Exceptions = &[
        ("FunctionPrecreate", "/function_schema", "we do not read the Python of a function"),
        ("FunctionCreate", "/function/function_schema", "we do not read the Python of a function"),
        (
            "FunctionCreate",
            "/function/app_name",
            "the SDK keeps the script's name when it deploys under another",
        ),
        ("VolumeGetOrCreate", "/version", "the flow leaves it to the server, we ask for version 2"),
    ];
    let (replay, client) = replay("09_deploy", exceptions).await;
    let local = local();
    let source = local.path().join("deploy_app.py");
    std::fs::write(&source, replay.uploaded("import subprocess")).unwrap();
    client
        .secrets()
        .create("wire-secret", [("API_KEY", "abc")], modal_client::IfExists::Fail)
        .await
        .unwrap();
    for (name, tag) in [("wire-deploy", "v1"), ("renamed", "")] {
        let mut volumes = Vec::new();
        for name in ["wire-config", "hf-cache", "vllm-cache", "flashinfer-cache"] {
            volumes.push(client.volume(name).create_if_missing().await.unwrap());
        }
        let parts = DeployParts {
            hello: local.path().join("hello.txt"),
            source: source.clone(),
            secret: client.secrets().get("wire-secret").await.unwrap(),
            volumes,
        };
        let deployed = wire_deploy(&client, name, &parts).version_tag(tag).await.unwrap();
        assert!(deployed.deployed_at.is_some() && deployed.functions.len() == 5);
    }
    let app = client.apps().by_name("wire-deploy").await.unwrap();
    assert_eq!(client.apps().history(&app.id).await.unwrap()[0].version, 1);
    let proxy = client.function("wire-deploy", "proxy").await.unwrap();
    assert_eq!(proxy.web_url(), Some("http://xyz.internal"));
    assert_eq!(client.function("wire-deploy", "square").await.unwrap().web_url(), None);
    assert!(client.function("wire-deploy", "nope").await.unwrap_err().is_not_found());
    replay.finish(&[
        ("EnvironmentGetOrCreate", "", "asked for once by one process; the SDK's were two"),
        ("MountGetOrCreate", "modal-client-mount", "looked up once for all functions"),
        (
            "MountGetOrCreate",
            "deploy_app.py",
            "the SDK shares the mount of a file between functions",
        ),
    ]);
}

#[tokio::test]
async fn sandboxes() {
    let exceptions: Exceptions = &[
        ("VolumeGetOrCreate", "/version", "the flow leaves it to the server, we ask for version 2"),
        ("*", "/exec_id", "made at random"),
        ("SandboxWaitV2", "extra", "asked whether the sandbox or only the program is gone"),
        ("SandboxGetTunnelsV2", "/timeout", "the flow asks for 5 seconds, we for the usual 50"),
        (
            "TaskExecStdioRead",
            "deadline",
            "we limit it on our side, so that late output is not cut off",
        ),
    ];
    let (replay, client) = replay("11_sandbox", exceptions).await;
    let app = client.app("sb-app").create_if_missing().await.unwrap();
    let image = Image::debian_slim().python("3.12").pip_install(["requests"]);
    let image = client.build(&image, &app).await.unwrap();
    client.secrets().get_or_create("wire-secret", [("API_KEY", "abc")]).await.unwrap();
    let secret = client.secrets().get("wire-secret").await.unwrap();
    let volume = client.volume("sb-vol").create_if_missing().await.unwrap();
    let sandbox = client
        .sandbox(&app, &image)
        .command(["bash", "-c", "echo started; cat; echo err >&2; sleep 60"])
        .name("my-sandbox")
        .tag("team", "wire")
        .tag("k", "v")
        .env("E1", "v1")
        .secret(&secret)
        .secret(&Secret::from_map([("INLINE", "1")]))
        .volume("/data", VolumeMount::new(&volume))
        .workdir("/tmp")
        .timeout(Duration::from_secs(600))
        .idle_timeout(Duration::from_secs(120))
        .cpu(0.5, Some(2.0))
        .memory(MiB(512), Some(MiB(1024)))
        .port(8080)
        .open_port(Port::Unencrypted(9090))
        .open_port(Port::Http2(5001))
        .create()
        .await
        .unwrap();
    sandbox.stdin().finish("typed on stdin\n").await.unwrap();
    assert_eq!(sandbox.poll().await.unwrap(), None);
    let tunnels = sandbox.tunnels().await.unwrap();
    assert_eq!(tunnels[&9090].unencrypted, Some(("r1.modal.host".to_owned(), 39090)));
    commands(&sandbox).await;
    sandbox.terminate().await.unwrap();
    assert_eq!(sandbox.wait().await.unwrap().code, 137);
    assert_eq!(sandbox.stdout().read_text().await.unwrap(), "started\ntyped on stdin\n");
    assert_eq!(sandbox.stderr().read_text().await.unwrap(), "err\n");

    let blocked = client.sandbox(&app, &image).command(["bash", "-c", "echo bye; exit 7"]);
    let blocked = blocked.network(NetworkAccess::Blocked).create().await.unwrap();
    assert_eq!(blocked.wait().await.unwrap().code, 7);
    assert_eq!(blocked.stdout().read_text().await.unwrap(), "bye\n");
    let listed =
        NetworkAccess::AllowList { cidrs: vec!["10.0.0.0/8".to_owned()], domains: Vec::new() };
    let listed = client.sandbox(&app, &image).network(listed).verbose(true).region("us-east");
    listed.create().await.unwrap().terminate_and_wait().await.unwrap();
    replay.finish(&[("TaskExecWait", "", "the SDK waits for the command that it gives a second")]);
}

async fn commands(sandbox: &modal_client::Sandbox) {
    let mut process = sandbox
        .exec(["bash", "-c", "echo out1; echo err1 >&2; read l; echo got:$l; exit 3"])
        .workdir("/tmp/w")
        .env("X", "y")
        .timeout(Duration::from_secs(30))
        .start()
        .await
        .unwrap();
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(b"hello-in\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let output = process.output().await.unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out1\ngot:hello-in\n"[..], &b"err1\n"[..])
    );
    assert_eq!(output.code, 3);
    let process = sandbox
        .exec(["bash", "-c", "for i in 1 2 3; do echo line$i; sleep 0.1; done"])
        .await
        .unwrap();
    assert_eq!(process.stdout().read_text().await.unwrap(), "line1\nline2\nline3\n");
    assert_eq!(process.wait().await.unwrap(), 0);
    sandbox.exec(["bash", "-c", "sleep 30"]).timeout(Duration::from_secs(1)).await.unwrap();
    let process = sandbox.exec(["bash", "-c", "printf '\\x00\\xff'"]).await.unwrap();
    assert_eq!(process.stdout().read_bytes().await.unwrap(), b"\0\xff");
    assert_eq!(process.poll().await.unwrap(), Some(0));
    let process =
        sandbox.exec(["true"]).stdout(Redirect::Null).stderr(Redirect::Null).await.unwrap();
    assert_eq!(process.wait().await.unwrap(), 0);
    sandbox.exec(["true"]).await.unwrap().output().await.unwrap();
    let pty = Pty { rows: 0, columns: 0, term: "dumb".to_owned() };
    let process = sandbox.exec(["bash", "-c", "tty; echo $TERM"]).pty(pty).await.unwrap();
    process.wait().await.unwrap();
    assert_eq!(process.stdout().read_text().await.unwrap(), "not a tty\nxterm\n");
    assert!(sandbox.exec(["/definitely/not/here"]).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn files_of_a_sandbox() {
    let exceptions: Exceptions =
        &[("*", "/exec_id", "made at random"), ("*", "/start/exec_id", "made at random")];
    let (replay, client) = replay("12_sandbox_fs", exceptions).await;
    let local = local();
    let app = client.app("sb-app").create_if_missing().await.unwrap();
    let image = client.build(&Image::debian_slim().python("3.12"), &app).await.unwrap();
    let sandbox = client.sandbox(&app, &image).command(["sleep", "60"]).create().await.unwrap();
    let files = sandbox.files();
    files.write("/tmp/w/fs/a.txt", "hello\n").await.unwrap();
    files.write("/tmp/w/fs/b.bin", &b"\x00\x01"[..]).await.unwrap();
    assert_eq!(files.read_text("/tmp/w/fs/a.txt").await.unwrap(), "hello\n");
    assert_eq!(files.read("/tmp/w/fs/b.bin").await.unwrap().as_ref(), b"\x00\x01");
    files.copy_from_local(local.path().join("hello.txt"), "/tmp/w/fs/c.txt").await.unwrap();
    files.copy_to_local("/tmp/w/fs/c.txt", local.path().join("c")).await.unwrap();
    assert_eq!(std::fs::read_to_string(local.path().join("c")).unwrap(), "hello wire\n");
    files.make_directory("/tmp/w/fs/d/e", true).await.unwrap();
    assert_eq!(files.list("/tmp/w/fs").await.unwrap()[0].name, "a.txt");
    assert_eq!(files.stat("/tmp/w/fs/a.txt").await.unwrap().mode, 0o644);
    files.remove("/tmp/w/fs/d", true).await.unwrap();
    let missing = files.read_text("/tmp/w/fs/none").await.unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
    files.write("/tmp/w/fs/big.bin", vec![7; 5 * 1024 * 1024]).await.unwrap();
    // The recording keeps only the beginning of what was read.
    assert!(!files.read("/tmp/w/fs/big.bin").await.unwrap().is_empty());
    sandbox.terminate().await.unwrap();
    replay.finish(&[]);
}

/// What the clock decides.
const TIMES: Exceptions = &[
    ("AppFetchLogs", "/since", "the clock of the moment"),
    ("AppFetchLogs", "/until", "the clock of the moment"),
    ("AppCountLogs", "/since", "the clock of the moment"),
    ("AppCountLogs", "/until", "the clock of the moment"),
    ("SecretList", "/pagination/created_before", "the clock of the moment"),
];

#[tokio::test]
async fn logs() {
    let (replay, client) = replay("14_logs", TIMES).await;
    assert!(client.containers().list(None).await.unwrap().is_empty());
    let app = client.app("sb-app").create_if_missing().await.unwrap();
    let image = client.build(&Image::debian_slim().python("3.12"), &app).await.unwrap();
    let command = ["bash", "-c", "echo one; echo two; echo e >&2"];
    let sandbox = client.sandbox(&app, &image).command(command).create().await.unwrap();
    sandbox.stdout().read_text().await.unwrap();
    sandbox.stderr().read_text().await.unwrap();
    sandbox.wait().await.unwrap();
    let logs = sandbox.logs().await.unwrap();
    logs.tail(5).await.unwrap();
    let now = std::time::SystemTime::now();
    logs.fetch(now - Duration::from_secs(300), now).await.unwrap();
    client.logs(&app.id).tail(5).await.unwrap();
    const DEPLOY: &str = "of a `modal deploy` of a class, which this client has not";
    const NAMES: &str = "by which the command line finds an app that was not deployed";
    replay.finish(&[
        ("AppGetByDeploymentName", "", NAMES),
        ("ObjectSuggest", "", NAMES),
        ("AppCreate", "", DEPLOY),
        ("AppHeartbeat", "", DEPLOY),
        ("AppClientDisconnect", "", DEPLOY),
        ("EnvironmentGetOrCreate", "", DEPLOY),
        ("FunctionPrecreate", "", DEPLOY),
        ("FunctionCreate", "", DEPLOY),
        ("ImageGetOrCreate", "", DEPLOY),
        ("ImageJoinStreaming", "", DEPLOY),
        ("MountGetOrCreate", "", DEPLOY),
        ("MountBatchedCheckExistence", "", DEPLOY),
        ("MountPutFile", "", DEPLOY),
        ("TaskGetInfo", "", "the command line looks at the container first"),
        ("AppFetchLogs", "ta-01KBN09R2V7DSJ1TWS6M500001", "a window around the container's end"),
        ("AppGetLogs", "", "the command line names the container alone, without its app"),
    ]);
}

#[tokio::test]
async fn volumes_of_version_1() {
    let (replay, client) = replay("20_volumes_v1", &[]).await;
    let lookup = client.volume("wire-v1").version(VolumeVersion::V1);
    let volume = lookup.create_if_missing().await.unwrap();
    let batch = volume.upload().bytes_with_mode("in memory", "/mem.txt", 0o600);
    batch.await.unwrap();
    assert_eq!(volume.list("/").recursive(true).await.unwrap()[0].path, "mem.txt");
    volume.copy(["mem.txt"], "copy.txt", false).await.unwrap();
    volume.remove("mem.txt").await.unwrap();
    client.volume("wire-v1").await.unwrap().rename("wire-v1b").await.unwrap();
    client.volume("wire-v1b").await.unwrap().delete().await.unwrap();
    replay.finish(&[("VolumeGetFile2", "", "the bytes of the file are not in the recording")]);
}

#[tokio::test]
async fn secrets() {
    let (replay, client) = replay("21_secrets", TIMES).await;
    let secrets = client.secrets();
    secrets.create("wire-keys", [("A", "1")], modal_client::IfExists::Fail).await.unwrap();
    let secret = secrets.get_with_keys("wire-keys", &["A"]).await.unwrap();
    secrets.update(secret.id().unwrap(), [("B", Some("2".into()))]).await.unwrap();
    assert_eq!(secrets.list().await.unwrap()[0].keys, ["A", "B"]);
    let found = secrets.get("wire-keys").await.unwrap();
    secrets.delete(found.id().unwrap()).await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
async fn queues() {
    let exceptions: Exceptions = &[
        ("QueueGet", "/timeout", "what is left of the limit at that moment"),
        ("QueueList", "/pagination/created_before", "the clock of the moment"),
        (
            "QueuePut",
            "/values",
            "pickles of the same values in an older protocol, which every Python reads",
        ),
    ];
    let (replay, client) = replay("23_queues", exceptions).await;
    let queue = client.queue("rec-queue").create_if_missing().await.unwrap();
    queue.put(&1).await.unwrap();
    let left = queue.partition("left").partition_life(Duration::from_secs(3_600));
    let values = [serde_json::json!("two"), serde_json::json!([3.5])];
    left.put_many(&values).await.unwrap();
    assert_eq!(queue.len().await.unwrap(), 1);
    assert_eq!(queue.total_len().await.unwrap(), 3);
    assert_eq!(left.len().await.unwrap(), 2);
    assert_eq!(left.peek::<serde_json::Value>().await.unwrap(), values);
    let limit = Duration::from_secs(5);
    assert_eq!(queue.get::<i64>(limit).await.unwrap(), Some(1));
    assert_eq!(left.get_many::<serde_json::Value>(10, limit).await.unwrap(), values);
    assert_eq!(queue.get::<i64>(Duration::ZERO).await.unwrap(), None);
    queue.put(&"last").await.unwrap();
    queue.clear().await.unwrap();
    assert_eq!(client.queues().list().await.unwrap()[0].name, "rec-queue");
    client.queue("rec-queue").await.unwrap().delete().await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
async fn dicts() {
    let exceptions: Exceptions = &[(
        "DictUpdate",
        "/updates/0/value",
        "a pickle of the same value in an older protocol, which every Python reads",
    )];
    let (replay, client) = replay("24_dicts", exceptions).await;
    let dict = client.dict("wire-dict").create_if_missing().await.unwrap();
    dict.put("answer", &42).await.unwrap();
    assert!(!dict.put_if_absent("answer", &1).await.unwrap());
    assert_eq!(dict.get::<i64>("answer").await.unwrap(), Some(42));
    assert_eq!(dict.get::<i64>("nothing").await.unwrap(), None);
    assert!(dict.contains("answer").await.unwrap());
    assert_eq!(dict.len().await.unwrap(), 1);
    dict.update([("a", 1)]).await.unwrap();
    assert_eq!(dict.pop::<i64>("answer").await.unwrap(), Some(42));
    assert_eq!(dict.keys().try_collect::<Vec<_>>().await.unwrap(), ["a"]);
    let items = dict.items::<i64>().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(items, [("a".to_owned(), 1)]);
    dict.clear().await.unwrap();
    client.dict("wire-dict").await.unwrap().delete().await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
async fn calls_of_functions() {
    let exceptions: Exceptions = &[
        ("*", "headers", "the other SDK names itself"),
        ("FunctionMap", "/pipelined_inputs/0/input/args", ENCODED),
        ("BlobCreate", "/content_length", ENCODED),
        ("BlobCreate", "/content_md5", ENCODED),
        ("BlobCreate", "/content_sha256_base64", ENCODED),
        ("FunctionGetOutputs", "/requested_at", "the clock of the moment"),
        ("FunctionGetOutputs", "deadline", "that SDK sets none"),
        ("FunctionGetOutputs", "/max_values", BY_INDEX),
        ("FunctionGetOutputs", "/start_idx", BY_INDEX),
        ("FunctionGetOutputs", "/end_idx", BY_INDEX),
        (
            "FunctionGetOutputs",
            "/input_jwts",
            "Python's SDK sends them, as we do, where it repeats failed calls itself",
        ),
    ];
    let (replay, client) = replay("28_function_calls", exceptions).await;
    let square = client.function("rec-functions", "square").await.unwrap();
    assert_eq!(square.call::<i64>((7,)).await.unwrap(), 49);
    let named = Arguments { positional: (7,), named: BTreeMap::from([("y", 1)]) };
    assert_eq!(square.call::<i64>(named).await.unwrap(), 50);
    let call = square.spawn((3,)).await.unwrap();
    assert_eq!(call.get_within::<i64>(Duration::from_secs(60)).await.unwrap(), 9);
    let size = client.function("rec-functions", "size").await.unwrap();
    let data = ciborium::Value::Bytes(vec![7; 3 << 20]);
    assert_eq!(size.call::<i64>((data,)).await.unwrap(), 3 << 20);
    square.stats().await.unwrap();
    replay.finish(&[("AuthTokenGet", "", "that SDK asks for a token before its first call")]);
}

#[tokio::test]
async fn snapshots_and_mounted_images() {
    let exceptions: Exceptions = &[
        ("*", "/exec_id", "made up for each command"),
        ("*", "/snapshot_id", "made up for each snapshot"),
    ];
    let (replay, client) = replay("26_snapshots", exceptions).await;
    let app = client.app("rec-snapshots").create_if_missing().await.unwrap();
    let image = client.build(&Image::debian_slim().python("3.11"), &app).await.unwrap();
    let sandbox = client.sandbox(&app, &image).command(["sleep", "300"]).await.unwrap();
    let script = "mkdir /work && echo one > /work/a";
    sandbox.exec(["sh", "-c", script]).await.unwrap().wait().await.unwrap();
    let month = Duration::from_secs(30 * 86_400);
    sandbox.snapshot_filesystem(Some(month)).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let directory = sandbox.snapshot_directory("/work", Some(hour)).await.unwrap();
    sandbox.mount_image("/mnt/work", &directory).await.unwrap();
    let cat = sandbox.exec(["cat", "/mnt/work/a"]).await.unwrap();
    let text: Vec<_> = cat.stdout().try_collect().await.unwrap();
    assert_eq!(text.concat(), b"one\n");
    sandbox.unmount_image("/mnt/work").await.unwrap();
    sandbox.terminate().await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
async fn sandboxes_of_version_1() {
    let exceptions: Exceptions = &[("*", "/exec_id", "made up for each command")];
    let (replay, client) = replay("27_sandbox_v1", exceptions).await;
    let app = client.app("rec-sandbox-v1").create_if_missing().await.unwrap();
    let image = client.build(&Image::debian_slim().python("3.11"), &app).await.unwrap();
    let sandbox = client
        .sandbox(&app, &image)
        .version(SandboxVersion::V1)
        .command(["sleep", "300"])
        .workdir("/tmp")
        .timeout(Duration::from_secs(600))
        .secret(&Secret::from_map([("INLINE", "1")]))
        .env("E1", "v1")
        .tag("team", "wire")
        .await
        .unwrap();
    let process = sandbox.exec(["sh", "-c", "echo out; exit 3"]).await.unwrap();
    assert_eq!(process.stdout().read_text().await.unwrap(), "out\n");
    assert_eq!(process.wait().await.unwrap(), 3);
    sandbox.set_tags([("team", "other")]).await.unwrap();
    assert_eq!(sandbox.tags().await.unwrap()["team"], "other");
    assert_eq!(sandbox.poll().await.unwrap(), None);
    sandbox.terminate().await.unwrap();
    replay.finish(&[]);
}

#[tokio::test]
async fn dockerfiles() {
    let (replay, client) = replay("22_dockerfile", &[]).await;
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("app")).unwrap();
    for (name, text) in [
        (
            "Dockerfile",
            "# about\nFROM debian:bookworm-slim\nARG WORDS\nCOPY app /app\nRUN echo $WORDS > /app/words\n",
        ),
        (".dockerignore", "**/*.secret\n"),
        ("app/main.sh", "echo main\n"),
        ("app/key.secret", "stays here\n"),
    ] {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    let app = client.app("wire-dockerfile").create_if_missing().await.unwrap();
    let image = Image::from_dockerfile(root.path().join("Dockerfile"))
        .context_dir(root.path())
        .build_arg("WORDS", "w");
    client.build(&image, &app).await.unwrap();
    replay.finish(&[]);
}
