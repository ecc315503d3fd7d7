//! Names, paths and requests that mean harm, made from a seed: each is refused or stays inside, none
//! hangs, and nothing outside of what it is about changes.
//!
//! `GOAT_PATHS_ROUNDS` and `GOAT_PATHS_SEED` make it longer and other: `cargo xtask soak paths`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use modal_proto::client::volume_put_files2_request::{Block, File};
use modal_proto::client::*;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::harness::{Live, Local};

/// Attempts of each kind in the short form.
const ROUNDS: u32 = 150;
/// No call takes longer, whatever it is about.
const LIMIT: Duration = Duration::from_secs(20);
/// What lies outside, and may neither be read nor changed.
const PLANTED: &str = "planted-4f1b2c";

fn rounds() -> u32 {
    number("GOAT_PATHS_ROUNDS").map_or(ROUNDS, |it| it as u32)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    fn new(salt: u64) -> Self {
        Self(number("GOAT_PATHS_SEED").unwrap_or(1) ^ (salt << 32))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A path of parts that lead up, elsewhere, nowhere, or are no names at all.
    fn path(&mut self) -> String {
        const PARTS: [&str; 26] = [
            "..",
            "..",
            "..",
            ".",
            "",
            "up",
            "root",
            "file",
            "loop",
            "pipe",
            "socket",
            "dangling",
            "d",
            "d/up",
            "plain",
            "canary",
            "etc/passwd",
            "proc/self/root",
            "proc/1/root",
            "dev/zero",
            "%2e%2e",
            "..%2f..",
            "a\nb",
            "a\0b",
            "\u{202e}x",
            "~",
        ];
        let mut path = self.pick(&["", "/", "//", "./", "../", "/../"]).to_owned();
        for _ in 0..=self.below(6) {
            path.push_str(self.pick(&PARTS));
            path.push_str(self.pick(&["/", "/", "/", "//", "/./", "\\"]));
        }
        match self.below(12) {
            0 => path.push_str(&"x".repeat(300)),
            1 => path.push_str(&"d/".repeat(3_000)),
            2 => {}
            _ => path.truncate(path.trim_end_matches('/').len()),
        }
        path
    }
}

/// What lies around the server's own: it must be the same at the end.
struct Outside {
    root: PathBuf,
    before: Vec<Vec<String>>,
}

/// Directories in which nothing may come up that is not the server's own doing.
const WATCHED: [&str; 3] = ["", "volumes", "mounts"];

impl Outside {
    fn plant(local: &Local) -> Self {
        let root = local.root().to_owned();
        for directory in ["", "volumes", "sandboxes"] {
            fs::write(root.join(directory).join("canary"), PLANTED).unwrap();
        }
        let before = WATCHED.map(|directory| local.names(directory)).to_vec();
        Self { root, before }
    }

    fn check(&self, local: &Local) {
        for directory in ["", "volumes", "sandboxes"] {
            let path = self.root.join(directory).join("canary");
            assert_eq!(fs::read_to_string(&path).unwrap(), PLANTED, "{}", path.display());
        }
        let after = WATCHED.map(|directory| local.names(directory)).to_vec();
        for (before, after) in self.before.iter().zip(after) {
            let own = |name: &String| name.contains("sqlite") || name.len() == 64;
            let new: Vec<_> = after.iter().filter(|it| !before.contains(it) && !own(it)).collect();
            assert!(new.is_empty(), "something came up outside: {new:?}");
        }
        assert!(!PathBuf::from("/hostile-marker").exists(), "a file came up on this machine");
    }
}

/// A call that must end; an internal error is a fault of the server.
async fn ends<T>(what: &str, call: impl Future<Output = Result<T, Status>>) -> Option<T> {
    let ended = tokio::time::timeout(LIMIT, call).await;
    match ended.unwrap_or_else(|_| panic!("{what} hangs")) {
        Ok(answer) => Some(answer),
        Err(status) => {
            let is_fault = matches!(status.code(), Code::Internal | Code::Unknown);
            assert!(!is_fault, "{what}: {status}");
            None
        }
    }
}

/// Whether objects may be called that.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain)
}

fn assert_not_outside(what: &str, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(!text.contains(PLANTED) && !text.contains("root:x:0:0"), "{what} got out: {text:.200}");
}

async fn volume(local: &Local) -> String {
    let request = VolumeGetOrCreateRequest {
        deployment_name: "hostile".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing.into(),
        version: VolumeFsVersion::V2.into(),
        ..Default::default()
    };
    local.client.clone().volume_get_or_create(request).await.unwrap().into_inner().volume_id
}

/// A sandbox that has a volume at `/v`.
async fn with_volume(local: &Local, volume: &str) -> Live {
    let mount = VolumeMount {
        volume_id: volume.to_owned(),
        mount_path: "/v".to_owned(),
        ..Default::default()
    };
    // Longer than the long form takes on a slow machine.
    let definition = Sandbox { timeout_secs: 7_200, ..local.definition(&["sleep", "7200"]) };
    local.create(Sandbox { volume_mounts: vec![mount], ..definition }).await
}

const TRAPS: &str = r"cd /v && mkdir -p d/e && echo inside > plain && ln -s / root
ln -s ../../../../../../../.. up; ln -s ../../.. d/up; ln -s /etc/passwd file; ln -s ../../canary canary
ln -s loop loop; ln -s /nowhere dangling; mkfifo pipe; ln -s /proc/self/root proc
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(`/v/socket`)'; touch -- '-rf' 'a
b'; touch $(printf '\377\376')";

/// Exchanges a directory and a link that leads out, as fast as it can; 2 is RENAME_EXCHANGE, -100 AT_FDCWD.
const SWAP: &str = "import ctypes
libc = ctypes.CDLL(None)
while True: assert libc.renameat2(-100, b'/v/swap', -100, b'/v/other', 2) == 0";

async fn upload(local: &Local, volume: &str, path: &str) -> Result<(), Status> {
    let data = b"uploaded";
    let file = File {
        path: path.to_owned(),
        size: data.len() as u64,
        blocks: vec![Block {
            contents_sha256: Sha256::digest(data).to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = VolumePutFiles2Request {
        volume_id: volume.to_owned(),
        files: vec![file],
        ..Default::default()
    };
    let mut client = local.client.clone();
    let missing = client.volume_put_files2(request.clone()).await?.into_inner().missing_blocks;
    for block in missing {
        let path = block.put_url.strip_prefix(local.server.url()).unwrap();
        let (status, _) = raw(local, "PUT", path, &[], data).await;
        assert_eq!(status, 200);
    }
    client.volume_put_files2(request).await.map(drop)
}

async fn download(local: &Local, volume: &str, path: &str) -> Result<Vec<u8>, Status> {
    let request = VolumeGetFile2Request {
        volume_id: volume.to_owned(),
        path: path.to_owned(),
        ..Default::default()
    };
    let urls = local.client.clone().volume_get_file2(request).await?.into_inner().get_urls;
    let mut data = Vec::new();
    for url in urls.iter().take(2) {
        let path = url.strip_prefix(local.server.url()).unwrap();
        data.extend(raw(local, "GET", path, &[], b"").await.1);
    }
    Ok(data)
}

async fn list(local: &Local, volume: &str, path: &str) -> Result<Vec<u8>, Status> {
    let request = VolumeListFiles2Request {
        volume_id: volume.to_owned(),
        path: path.to_owned(),
        recursive: true,
        ..Default::default()
    };
    let mut answers = local.client.clone().volume_list_files2(request).await?.into_inner();
    let mut names = Vec::new();
    while let Some(answer) = answers.message().await? {
        names.extend(answer.entries.iter().flat_map(|entry| entry.path.bytes().chain([0])));
    }
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_a_volume() {
    let local = Local::start().await;
    let volume = volume(&local).await;
    let outside = Outside::plant(&local);
    let sandbox = with_volume(&local, &volume).await;
    let traps = TRAPS.replace('`', "\"");
    sandbox.sh(&traps).await;
    let mut random = Random::new(1);
    let mut client = local.client.clone();
    for round in 0..rounds() {
        let (path, other) = (random.path(), random.path());
        let what = format!("round {round}, {path:.200?}, {other:.200?}");
        let id = volume.clone();
        match random.below(6) {
            0 => drop(ends(&what, upload(&local, &volume, &path)).await),
            1 => {
                if let Some(data) = ends(&what, download(&local, &volume, &path)).await {
                    assert_not_outside(&what, &data);
                }
            }
            2 => {
                if let Some(names) = ends(&what, list(&local, &volume, &path)).await {
                    assert_not_outside(&what, &names);
                    let names = String::from_utf8_lossy(&names).into_owned();
                    assert!(!names.contains("records.sqlite"), "{what}: {names}");
                }
            }
            3 => {
                let request = VolumeRemoveFile2Request {
                    volume_id: id,
                    path,
                    recursive: random.below(2) == 0,
                };
                drop(ends(&what, client.volume_remove_file2(request)).await);
                // What was removed is there again for the others.
                sandbox.sh(&traps).await;
            }
            4 => {
                let request = VolumeCopyFiles2Request {
                    volume_id: id,
                    src_paths: vec![path],
                    dst_path: other,
                    recursive: random.below(2) == 0,
                };
                drop(ends(&what, client.volume_copy_files2(request)).await);
            }
            _ => {
                let is_name = is_name(&path);
                let request = VolumeRenameRequest { volume_id: id, name: path };
                let renamed = ends(&what, client.volume_rename(request)).await.is_some();
                assert!(!renamed || is_name, "{what}");
            }
        }
    }
    outside.check(&local);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_during_a_call_does_not_help() {
    let local = Local::start().await;
    let volume = volume(&local).await;
    let outside = Outside::plant(&local);
    let sandbox = with_volume(&local, &volume).await;
    let made = "cd /v && mkdir swap && echo inside > swap/canary && ln -s ../../.. other";
    assert_eq!(sandbox.sh(made).await.0, 0);
    let swapper = sandbox.exec(&["python3", "-c", SWAP]).await;
    let (mut uploaded, mut read) = (0, 0);
    for round in 0..rounds() * 2 {
        let name = format!("swap/hostile-{round}");
        uploaded += u32::from(ends(&name, upload(&local, &volume, &name)).await.is_some());
        if let Some(data) = ends(&name, download(&local, &volume, "swap/canary")).await {
            assert_not_outside(&name, &data);
            read += 1;
        }
        let listed = ends(&name, list(&local, &volume, "swap")).await.unwrap_or_default();
        assert!(!String::from_utf8_lossy(&listed).contains("records.sqlite"), "{name}");
    }
    assert!(uploaded > 0 && read > 0, "the race was never won by the call: {uploaded} {read}");
    assert!(swapper.poll().await.is_none(), "nobody swapped");
    outside.check(&local);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_mounts_and_of_builds_lie_where_they_may() {
    let local = Local::start_apart().await;
    let outside = Outside::plant(&local);
    let mut client = local.client.clone();
    let mut random = Random::new(2);
    let data = b"hostile".to_vec();
    let sha256_hex = hex::encode(Sha256::digest(&data));
    let upload = MountPutFileRequest {
        sha256_hex: sha256_hex.clone(),
        data_oneof: Some(mount_put_file_request::DataOneof::Data(data.clone().into())),
    };
    client.mount_put_file(upload).await.unwrap();
    for round in 0..rounds() / 10 {
        let names = [random.path(), random.path(), "/hostile-marker".to_owned()];
        let what = format!("round {round}, {names:.200?}");
        let file = |name: &String| MountFile {
            filename: name.clone(),
            sha256_hex: sha256_hex.clone(),
            ..Default::default()
        };
        let request = MountGetOrCreateRequest {
            object_creation_type: ObjectCreationType::Ephemeral.into(),
            files: names.iter().map(file).collect(),
            ..Default::default()
        };
        if let Some(mount) = ends(&what, client.mount_get_or_create(request)).await {
            let mount_ids = vec![mount.into_inner().mount_id];
            let definition = Sandbox { mount_ids, ..local.definition(&["true"]) };
            if let Some(sandbox) = ends(&what, local.try_create(local.request(definition))).await {
                sandbox.wait().await;
            }
        }
        let (from, to) = (random.path().replace('\n', ""), random.path().replace('\n', ""));
        let image = Image {
            dockerfile_commands: vec![
                "FROM debian:12-slim".to_owned(),
                "RUN ln -s / /root-link; ln -s ../../../../../../.. /up; mkdir /d".to_owned(),
                format!("COPY {from} {to}"),
                format!(
                    "COPY inline {}",
                    random.pick(&["/up/hostile-marker", "/root-link/x", "../../../x"])
                ),
                format!("WORKDIR {to}"),
            ],
            context_files: ["inline", &from]
                .map(|filename| ImageContextFile {
                    filename: filename.to_owned(),
                    data: data.clone(),
                })
                .to_vec(),
            ..Default::default()
        };
        let request = ImageGetOrCreateRequest {
            image: Some(image),
            app_id: local.app.clone(),
            builder_version: "2025.06".to_owned(),
            ..Default::default()
        };
        if let Some(image) = ends(&what, client.image_get_or_create(request)).await {
            local.joined(&image.into_inner().image_id).await;
        }
        outside.check(&local);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ids_of_objects_are_no_paths() {
    let local = Local::start().await;
    let outside = Outside::plant(&local);
    let mut random = Random::new(3);
    let mut client = local.client.clone();
    for round in 0..rounds() {
        let name = random.path();
        let what = format!("round {round}, {name:.200?}");
        let created: i32 = ObjectCreationType::CreateIfMissing.into();
        let kind = random.below(5);
        // A sandbox may have none.
        let is_name = is_name(&name) || kind == 3 && name.is_empty();
        let made = match kind {
            0 => {
                let request = SecretGetOrCreateRequest {
                    deployment_name: name.clone(),
                    object_creation_type: created,
                    ..Default::default()
                };
                ends(&what, client.secret_get_or_create(request)).await.is_some()
            }
            1 => {
                let request = DictGetOrCreateRequest {
                    deployment_name: name.clone(),
                    object_creation_type: created,
                    ..Default::default()
                };
                ends(&what, client.dict_get_or_create(request)).await.is_some()
            }
            2 => {
                let request = AppGetOrCreateRequest {
                    app_name: name.clone(),
                    object_creation_type: created,
                    ..Default::default()
                };
                ends(&what, client.app_get_or_create(request)).await.is_some()
            }
            3 => {
                let definition =
                    Sandbox { name: Some(name.clone()), ..local.definition(&["true"]) };
                ends(&what, local.try_create(local.request(definition))).await.is_some()
            }
            _ => {
                let sandbox_id = format!("sb-{name}");
                let request = SandboxWaitRequest { sandbox_id, timeout: 0.0 };
                assert!(ends(&what, client.sandbox_wait_v2(request)).await.is_none(), "{what}");
                let request = VolumeListFiles2Request {
                    volume_id: format!("vo-{name}"),
                    ..Default::default()
                };
                ends(&what, client.volume_list_files2(request)).await.is_some()
            }
        };
        assert!(!made || is_name, "{what} was taken for a name");
    }
    outside.check(&local);
}

/// One exchange as it is written; status and body.
async fn raw(
    local: &Local,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let address = local.server.url().strip_prefix("http://").unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.extend(format!("host: {address}\r\n").bytes());
    }
    for (name, value) in headers {
        request.extend(format!("{name}: {value}\r\n").bytes());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    request.extend(body);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may answer, and close, before it has read everything.
        let _ = stream.write_all(&request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(LIMIT, exchange).await.expect("an HTTP request hangs");
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.get(end + 4..).unwrap_or_default().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_s_requests_are_answered_whatever_they_look_like() {
    let local = Local::start().await;
    let outside = Outside::plant(&local);
    let request = BlobCreateRequest { content_length: 4, ..Default::default() };
    let blob = local.client.clone().blob_create(request).await.unwrap().into_inner();
    let Some(blob_create_response::UploadTypeOneof::UploadUrl(url)) = blob.upload_type_oneof else {
        panic!("a small blob is uploaded at once");
    };
    let granted = url.strip_prefix(local.server.url()).unwrap().to_owned();
    let token = local.server.token().clone();
    let (id, secret) = (token.id.clone(), token.secret.expose().to_owned());
    let own = local.server.url().strip_prefix("http://").unwrap().to_owned();
    let mut random = Random::new(4);
    for round in 0..rounds() * 2 {
        // One thing about it is wrong.
        let (mut path, mut method) = ("/_local/status".to_owned(), "GET");
        let mut headers = vec![
            ("x-modal-token-id", id.clone()),
            ("x-modal-token-secret", secret.clone()),
            ("host", own.clone()),
        ];
        match random.below(5) {
            0 => {
                let host = random.pick(&[
                    "evil.example",
                    "127.0.0.1.evil.example",
                    "localhost.evil.example:80",
                    "[::2]",
                    "",
                    "127.0.0.1@evil.example",
                    "evil.example#127.0.0.1",
                    "0.0.0.0",
                    "127.0.0.2",
                    "a b",
                ]);
                headers[2].1 = host.to_owned();
            }
            1 => {
                let origin = random.pick(&[
                    "http://evil.example",
                    "null",
                    "file://",
                    "https://127.0.0.1.evil.example",
                    "127.0.0.1",
                ]);
                headers.push(("origin", origin.to_owned()));
            }
            2 => {
                let cut = random.below(secret.len());
                headers[1].1 = match random.below(3) {
                    0 => secret[..cut].to_owned(),
                    1 => format!("{secret}x"),
                    _ => secret.replacen(&secret[cut..=cut], "~", 1),
                };
            }
            3 => {
                // A signed path with one letter changed, cut, or continued.
                method = "PUT";
                let start = "/_granted/".len();
                let at = start + random.below(granted.len() - start);
                let letter = if &granted[at..=at] == "A" { "B" } else { "A" };
                path = match random.below(4) {
                    0 => granted[..at].to_owned(),
                    1 => format!("{granted}{letter}"),
                    2 => format!("{granted}/../{}", random.pick(&["x", "%2e%2e", ""])),
                    _ => format!("{}{letter}{}", &granted[..at], &granted[at + 1..]),
                };
                headers.truncate(0);
                headers.push(("host", own.clone()));
            }
            _ => {
                let odd = random.path();
                let odd: String = odd.chars().filter(|it| it.is_ascii_graphic()).collect();
                path = format!(
                    "/{}{odd}",
                    random.pick(&["", "_local/", "_granted/", "login/", "_local/../"])
                );
                if path.trim_end_matches('/') == "/_local/status" {
                    continue;
                }
                headers.truncate(0);
                headers.push(("host", own.clone()));
            }
        }
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, body) = raw(&local, method, &path, &headers, b"evil").await;
        let what = format!("round {round}: {method} {path:.200} {headers:.300?} -> {status}");
        assert!((400..500).contains(&status), "{what}");
        assert_not_outside(&what, &body);
        assert!(!String::from_utf8_lossy(&body).contains(&secret), "{what}");
    }
    outside.check(&local);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_commands_are_told_what_is_wrong_with_them() {
    let local = Local::start().await;
    let sandbox = local.sleeping().await;
    let long = "x".repeat(2 << 20);
    let many = vec!["x"; 200_000];
    let nul: &[&str] = &["echo", "a\0b"];
    for argv in [&["echo", long.as_str()][..], &many, nul, &[""], &[]] {
        let refused = sandbox.start(sandbox.command(argv)).await.err().map(|it| it.code());
        let told = matches!(
            refused,
            Some(Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition)
        );
        assert!(told, "{:.80?} is answered with {refused:?}", argv);
    }
    let mut command = sandbox.command(&["env"]);
    command.env = [("A=B".to_owned(), "x".to_owned()), ("N".to_owned(), "a\0b".to_owned())].into();
    assert!(sandbox.start(command).await.is_err());
    let mut command = sandbox.command(&["pwd"]);
    command.workdir = Some("../../../..".to_owned());
    let odd = sandbox.start(command).await;
    assert!(odd.is_err(), "a working directory is absolute");
    assert_eq!(sandbox.sh("echo fine").await.1, "fine\n");
}
