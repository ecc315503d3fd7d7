//! A disk that fills up: clear answers, nothing lost that was acknowledged, and on again once there is
//! room.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use modal_local::TokenPair;
use modal_proto::client::volume_put_files2_request::{Block, File};
use modal_proto::client::*;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::harness::{Client, connect, http};

/// Says how to mend it.
const CURE: &str = "cargo xtask local gc";

/// A small disk in a mount namespace of its own, which goes with the process that holds it.
struct SmallDisk {
    holder: Child,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn new(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script =
            format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$1\" && echo ready && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "this test needs to mount a tmpfs: run it as root");
        Self { holder, directory }
    }

    /// A path on it, as this process sees it.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.directory.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside).join(name)
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut filler = fs::File::create(self.path("filler")).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if filler.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended; what matters is that it has.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A server process on a small disk.
struct Daemon {
    child: Child,
    url: String,
    client: Client,
    token: TokenPair,
}

impl Daemon {
    async fn start(disk: &SmallDisk, reserve: &str) -> Self {
        let mut child = Command::new("nsenter")
            .args(["--mount", "--target", &disk.holder.id().to_string()])
            .arg(env!("CARGO_BIN_EXE_modal-local"))
            .args(["serve", "--disk-reserve", reserve, "--state-dir"])
            .arg(disk.directory.path().join("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        let record = fs::read(disk.path("state/server.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        let token = TokenPair::new(text("token_id"), text("token_secret").as_str());
        Self { child, client: connect(&url, token.clone()).await, url, token }
    }

    /// By SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn get(&self, method: &str, path: &str) -> serde_json::Value {
        let token = [
            ("x-modal-token-id", self.token.id.as_str()),
            ("x-modal-token-secret", self.token.secret.expose()),
        ];
        let answer = http(method, &format!("{}{path}", self.url), &token, b"").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn volume(&mut self) -> String {
        let request = VolumeGetOrCreateRequest {
            deployment_name: "data".to_owned(),
            object_creation_type: ObjectCreationType::CreateIfMissing.into(),
            version: VolumeFsVersion::V2.into(),
            ..Default::default()
        };
        self.client.volume_get_or_create(request).await.unwrap().into_inner().volume_id
    }

    async fn dict(&mut self) -> String {
        let request = DictGetOrCreateRequest {
            deployment_name: "facts".to_owned(),
            object_creation_type: ObjectCreationType::CreateIfMissing.into(),
            ..Default::default()
        };
        self.client.dict_get_or_create(request).await.unwrap().into_inner().dict_id
    }

    /// Uploads one block as a file.
    async fn put(&mut self, volume: &str, path: &str, data: &[u8]) -> Result<(), Status> {
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
        let missing = self.client.volume_put_files2(request.clone()).await?.into_inner();
        for block in &missing.missing_blocks {
            let answer = http("PUT", &block.put_url, &[], data).await;
            if answer.status != 200 {
                assert_eq!(answer.status, 507);
                return Err(Status::resource_exhausted(String::from_utf8(answer.body).unwrap()));
            }
        }
        self.client.volume_put_files2(request).await.map(drop)
    }

    async fn read(&mut self, volume: &str, path: &str) -> Vec<u8> {
        let request = VolumeGetFile2Request {
            volume_id: volume.to_owned(),
            path: path.to_owned(),
            ..Default::default()
        };
        let urls = self.client.volume_get_file2(request).await.unwrap().into_inner().get_urls;
        http("GET", &urls[0], &[], b"").await.body
    }

    async fn remember(&mut self, dict: &str, key: u32, value: &[u8]) -> Result<(), Status> {
        let entry = DictEntry { key: key.to_be_bytes().to_vec(), value: value.to_vec() };
        let request = DictUpdateRequest {
            dict_id: dict.to_owned(),
            updates: vec![entry],
            ..Default::default()
        };
        self.client.dict_update(request).await.map(drop)
    }

    async fn recall(&mut self, dict: &str, key: u32) -> Option<Vec<u8>> {
        let request = DictGetRequest { dict_id: dict.to_owned(), key: key.to_be_bytes().to_vec() };
        self.client.dict_get(request).await.unwrap().into_inner().value
    }
}

fn content(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(100_000)
}

fn assert_full(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("full") && status.message().contains(CURE), "{status}");
}

#[tokio::test]
async fn the_reserve_is_left_free_and_deleting_makes_room() {
    let disk = SmallDisk::new(48);
    let mut daemon = Daemon::start(&disk, "24MiB").await;
    let volume = daemon.volume().await;
    let mut kept = 0;
    let refused = loop {
        match daemon.put(&volume, &format!("f{kept}"), &content(kept)).await {
            Ok(()) => kept += 1,
            Err(status) => break status,
        }
    };
    assert_full(&refused);
    assert!(kept > 3, "{kept}");
    let usage = daemon.get("GET", "/_local/usage").await;
    assert_eq!((&usage["is_full"], &usage["reserve"]), (&true.into(), &(24 << 20).into()));
    assert!(usage["used"]["volumes"].as_u64().unwrap() >= u64::from(kept) * 400_000, "{usage}");
    // Small records are what the reserve is for; what is there is read and deleted.
    daemon.dict().await;
    assert_eq!(daemon.read(&volume, "f0").await, content(0));
    let request = VolumeDeleteRequest { volume_id: volume, ..Default::default() };
    daemon.client.volume_delete(request).await.unwrap();
    daemon.get("POST", "/_local/gc").await;
    let volume = daemon.volume().await;
    daemon.put(&volume, "again", &content(1)).await.unwrap();
    daemon.kill();
}

#[tokio::test]
async fn a_disk_without_a_free_byte_loses_nothing_that_was_acknowledged() {
    let disk = SmallDisk::new(32);
    let mut daemon = Daemon::start(&disk, "0").await;
    let (volume, dict) = (daemon.volume().await, daemon.dict().await);
    daemon.put(&volume, "before", &content(7)).await.unwrap();
    disk.fill();
    // Whatever still fits in pages that are there already is kept; then everything is refused.
    let (mut kept, mut refused) = (Vec::new(), 0);
    for key in 0..200 {
        match daemon.remember(&dict, key, &content(key)[..20_000]).await {
            Ok(()) => kept.push(key),
            Err(status) => {
                assert_full(&status);
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
    assert_full(&daemon.put(&volume, "during", &content(8)).await.unwrap_err());
    let secret = SecretGetOrCreateRequest {
        deployment_name: "s".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing.into(),
        env_dict: [("KEY".to_owned(), "x".repeat(50_000))].into(),
        ..Default::default()
    };
    assert_full(&daemon.client.secret_get_or_create(secret.clone()).await.unwrap_err());
    assert_eq!(daemon.read(&volume, "before").await, content(7));

    disk.make_room();
    daemon.put(&volume, "after", &content(9)).await.unwrap();
    daemon.client.secret_get_or_create(secret).await.unwrap();
    daemon.remember(&dict, 1_000, b"after").await.unwrap();
    daemon.kill();
    let mut daemon = Daemon::start(&disk, "0").await;
    for key in kept {
        assert_eq!(daemon.recall(&dict, key).await.unwrap(), content(key)[..20_000]);
    }
    assert_eq!(daemon.recall(&dict, 1_000).await.unwrap(), b"after");
    for (path, number) in [("before", 7), ("after", 9)] {
        assert_eq!(daemon.read(&volume, path).await, content(number));
    }
    daemon.kill();
}
