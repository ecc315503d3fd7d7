//! Volumes: files go in block by block, come out the same, and never lead out of their volume.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use modal_proto::client::mount_put_file_request::DataOneof;
use modal_proto::client::volume_put_files2_request::{Block, File};
use modal_proto::client::{
    ListPagination, MountFile, MountPutFileRequest, ObjectCreationType, VolumeCommitRequest,
    VolumeCopyFiles2Request, VolumeDeleteRequest, VolumeFsVersion, VolumeGetByIdRequest,
    VolumeGetFile2Request, VolumeGetOrCreateRequest, VolumeHeartbeatRequest,
    VolumeListFiles2Request, VolumeListRequest, VolumePutFiles2Request, VolumePutFilesRequest,
    VolumeReloadRequest, VolumeRemoveFile2Request, VolumeRenameRequest,
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, http};

const BLOCK: usize = 8 * 1024 * 1024;

struct Volume {
    server: TestServer,
    client: Client,
    id: String,
}

impl Volume {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let mut client = server.client().await;
        let id = create(&mut client, "data", ObjectCreationType::CreateIfMissing).await.unwrap();
        Self { server, client, id }
    }

    /// Where its files lie.
    fn tree(&self) -> PathBuf {
        self.server.dir.path().join("volumes").join(&self.id).join("tree")
    }

    /// Uploads as the SDK does: names the blocks, puts the missing ones, names them again. Answers
    /// how many were missing.
    async fn put(&mut self, path: &str, data: &[u8], overwrite: bool) -> Result<usize, Status> {
        let request = put_request(&self.id, &[(path, data)], overwrite);
        let missing = self.client.volume_put_files2(request.clone()).await?.into_inner();
        for block in &missing.missing_blocks {
            let part = data.chunks(BLOCK).nth(block.block_index as usize).unwrap();
            assert_eq!(http("PUT", &block.put_url, &[], b"\x01other").await.status, 400);
            let answer = http("PUT", &block.put_url, &[], trimmed(part)).await;
            assert_eq!(answer.status, 200);
        }
        if !missing.missing_blocks.is_empty() {
            let after = self.client.volume_put_files2(request).await?.into_inner();
            assert!(after.missing_blocks.is_empty());
        }
        Ok(missing.missing_blocks.len())
    }

    async fn urls(
        &mut self,
        path: &str,
        range: (u64, u64),
        pads: bool,
    ) -> Result<Vec<String>, Status> {
        let request = VolumeGetFile2Request {
            volume_id: self.id.clone(),
            path: path.to_owned(),
            start: range.0,
            len: range.1,
            client_pads_blocks: pads,
        };
        self.client.volume_get_file2(request).await.map(|it| it.into_inner().get_urls)
    }

    /// Downloads a file without padding of our own.
    async fn get(&mut self, path: &str, range: (u64, u64)) -> Result<Vec<u8>, Status> {
        let mut data = Vec::new();
        for url in self.urls(path, range, false).await? {
            let answer = http("GET", &url, &[], b"").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let digest = format!("sha-256=:{}:", BASE64.encode(Sha256::digest(&answer.body)));
            assert_eq!(answer.headers["repr-digest"], digest);
            data.extend(answer.body);
        }
        Ok(data)
    }

    async fn list(&mut self, path: &str, recursive: bool) -> Result<Vec<String>, Status> {
        let request = VolumeListFiles2Request {
            volume_id: self.id.clone(),
            path: path.to_owned(),
            recursive,
            max_entries: None,
        };
        let mut stream = self.client.volume_list_files2(request).await?.into_inner();
        let mut paths = Vec::new();
        while let Some(batch) = stream.message().await? {
            paths.extend(batch.entries.into_iter().map(|entry| entry.path));
        }
        Ok(paths)
    }

    async fn remove(&mut self, path: &str, recursive: bool) -> Result<(), Status> {
        let (volume_id, path) = (self.id.clone(), path.to_owned());
        let request = VolumeRemoveFile2Request { volume_id, path, recursive };
        self.client.volume_remove_file2(request).await.map(drop)
    }
}

fn trimmed(block: &[u8]) -> &[u8] {
    let end = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &block[..end]
}

fn put_request(id: &str, files: &[(&str, &[u8])], overwrite: bool) -> VolumePutFiles2Request {
    let block = |part: &[u8]| Block {
        contents_sha256: Sha256::digest(trimmed(part)).to_vec(),
        put_response: None,
    };
    let file = |(path, data): &(&str, &[u8])| File {
        path: (*path).to_owned(),
        size: data.len() as u64,
        blocks: data.chunks(BLOCK).map(block).collect(),
        mode: Some(0o644),
    };
    VolumePutFiles2Request {
        volume_id: id.to_owned(),
        files: files.iter().map(file).collect(),
        disallow_overwrite_existing_files: !overwrite,
    }
}

async fn create(client: &mut Client, name: &str, kind: ObjectCreationType) -> Result<String, Code> {
    let request = VolumeGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: kind as i32,
        version: VolumeFsVersion::V2 as i32,
        ..Default::default()
    };
    let answer = client.volume_get_or_create(request).await;
    answer.map(|it| it.into_inner().volume_id).map_err(|it| it.code())
}

#[tokio::test]
async fn a_file_of_several_blocks_makes_the_round_trip() {
    let mut volume = Volume::new().await;
    let mut data = vec![0_u8; 2 * BLOCK + 100];
    data[5] = 7;
    data[2 * BLOCK + 3] = 9;
    assert_eq!(volume.put("/deep/er/big.bin", &data, false).await.unwrap(), 3);
    assert_eq!(volume.put("/copy.bin", &data, false).await.unwrap(), 0, "all blocks are here");
    assert!(volume.get("deep/er/big.bin", (0, 0)).await.unwrap() == data);
    let middle = volume.get("/deep/er/big.bin", (BLOCK as u64 * 2 - 2, 8)).await.unwrap();
    assert_eq!(middle, data[2 * BLOCK - 2..2 * BLOCK + 6]);
    let urls = volume.urls("/copy.bin", (0, 0), true).await.unwrap();
    let lengths = async |url: &str| http("GET", url, &[], b"").await.body.len();
    assert_eq!(lengths(&urls[0]).await, 6, "a client that pads gets no trailing zeros");
    assert_eq!(lengths(&urls[1]).await, 0);
    assert_eq!(lengths(&urls[2]).await, 4);
    assert_eq!(volume.put("/empty", b"", false).await.unwrap(), 0);
    assert_eq!(volume.get("/empty", (0, 0)).await.unwrap(), b"");
}

#[tokio::test]
async fn existing_files_are_overwritten_only_if_asked() {
    let mut volume = Volume::new().await;
    volume.put("/a", b"one", false).await.unwrap();
    let status = volume.put("a", b"two", false).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(volume.get("a", (0, 0)).await.unwrap(), b"one");
    volume.put("a", b"two", true).await.unwrap();
    assert_eq!(volume.get("a", (0, 0)).await.unwrap(), b"two");
    let status = volume.put("a/b", b"x", true).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn lists_copies_and_removals() {
    let mut volume = Volume::new().await;
    for path in ["/b/two", "/b/one", "/a"] {
        volume.put(path, path.as_bytes(), true).await.unwrap();
    }
    assert_eq!(volume.list("/", false).await.unwrap(), ["a", "b"]);
    assert_eq!(volume.list("", true).await.unwrap(), ["a", "b", "b/one", "b/two"]);
    assert_eq!(volume.list("/b/", false).await.unwrap(), ["b/one", "b/two"]);
    assert_eq!(volume.list("b/one", false).await.unwrap(), ["b/one"]);
    assert_eq!(volume.list("nope", true).await.unwrap_err().code(), Code::NotFound);
    let copy = VolumeCopyFiles2Request {
        volume_id: volume.id.clone(),
        src_paths: vec!["a".to_owned(), "b/one".to_owned()],
        dst_path: "/a".to_owned(),
        recursive: false,
    };
    let status = volume.client.volume_copy_files2(copy.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "two sources need a directory");
    let copy = VolumeCopyFiles2Request { dst_path: "/made".to_owned(), ..copy };
    volume.client.volume_copy_files2(copy.clone()).await.unwrap();
    assert_eq!(volume.list("made", true).await.unwrap(), ["made/a", "made/one"]);
    volume.remove("made", true).await.unwrap();
    let copy = VolumeCopyFiles2Request { dst_path: "/b".to_owned(), ..copy };
    let status = volume.client.volume_copy_files2(copy.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "`b/one` lies there already");
    let copy = VolumeCopyFiles2Request { src_paths: vec!["a".to_owned()], ..copy };
    volume.client.volume_copy_files2(copy).await.unwrap();
    assert_eq!(volume.get("b/a", (0, 0)).await.unwrap(), b"/a");
    assert_eq!(volume.remove("b", false).await.unwrap_err().code(), Code::InvalidArgument);
    volume.remove("b", true).await.unwrap();
    assert_eq!(volume.list("/", true).await.unwrap(), ["a"]);
    assert_eq!(volume.remove("b", true).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn hostile_paths_are_refused_everywhere() {
    let mut volume = Volume::new().await;
    let long = "x".repeat(300);
    for path in ["../x", "/..", "a/../../x", "a\0b", long.as_str()] {
        let put = volume.put(path, b"x", true).await.unwrap_err();
        let get = volume.get(path, (0, 0)).await.unwrap_err();
        let list = volume.list(path, true).await.unwrap_err();
        let remove = volume.remove(path, true).await.unwrap_err();
        for status in [put, get, list, remove] {
            assert_eq!(status.code(), Code::InvalidArgument, "{path:?}: {status}");
        }
    }
    for id in ["", "vo-", "vo-../../secrets", "st-abc"] {
        let request = VolumeGetByIdRequest { volume_id: id.to_owned() };
        let status = volume.client.volume_get_by_id(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?}");
    }
    let request = VolumeGetByIdRequest { volume_id: "vo-unknown".to_owned() };
    let status = volume.client.volume_get_by_id(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

/// A sandbox can put any link into a volume that it has mounted.
#[tokio::test]
async fn links_in_a_volume_lead_nowhere_outside() {
    let mut volume = Volume::new().await;
    volume.put("/in/file", b"inside", true).await.unwrap();
    let keys = volume.server.dir.path().join("keys.json");
    let tree = volume.tree();
    symlink(&keys, tree.join("keys")).unwrap();
    symlink("../../../keys.json", tree.join("up")).unwrap();
    symlink(volume.server.dir.path(), tree.join("state")).unwrap();
    symlink("in/file", tree.join("good")).unwrap();
    for path in ["keys", "up", "state/keys.json"] {
        assert!(volume.get(path, (0, 0)).await.is_err(), "{path}");
    }
    assert_eq!(volume.get("good", (0, 0)).await.unwrap(), b"inside");
    volume.put("state/planted", b"x", true).await.unwrap_err();
    volume.list("state", true).await.map(|it| assert_eq!(it, ["state"])).unwrap();
    volume.list("state/secrets", true).await.unwrap_err();
    volume.remove("state/keys.json", true).await.unwrap_err();
    let copy = VolumeCopyFiles2Request {
        volume_id: volume.id.clone(),
        src_paths: vec!["state/keys.json".to_owned()],
        dst_path: "stolen".to_owned(),
        recursive: true,
    };
    volume.client.volume_copy_files2(copy).await.unwrap_err();
    assert!(!volume.server.dir.path().join("planted").exists());
    let url = volume.urls("in/file", (0, 0), true).await.unwrap().remove(0);
    std::fs::remove_file(tree.join("in/file")).unwrap();
    symlink(&keys, tree.join("in/file")).unwrap();
    assert_ne!(http("GET", &url, &[], b"").await.status, 200, "swapped after the URL was made");
    volume.put("keys", b"mine", true).await.unwrap();
    assert_ne!(std::fs::read(&keys).unwrap(), b"mine", "the link is replaced, not followed");
    volume.remove("/", true).await.unwrap();
    assert!(keys.exists());
}

#[tokio::test]
async fn odd_uploads_are_refused() {
    let volume = Volume::new().await;
    let mut client = volume.client.clone();
    let good = put_request(&volume.id, &[("a", b"x")], true);
    let mut bad_hash = good.clone();
    bad_hash.files[0].blocks[0].contents_sha256.pop();
    let mut bad_count = good.clone();
    bad_count.files[0].size = u64::MAX;
    let mut root = good.clone();
    root.files[0].path = "/".to_owned();
    for request in [bad_hash, bad_count, root] {
        let status = client.volume_put_files2(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn version_1_takes_whole_files() {
    let mut volume = Volume::new().await;
    let hash = hex::encode(Sha256::digest(b"version one"));
    let put = MountPutFileRequest {
        sha256_hex: hash.clone(),
        data_oneof: Some(DataOneof::Data(b"version one".as_slice().into())),
    };
    volume.client.mount_put_file(put).await.unwrap();
    let file = MountFile { filename: "/v1".to_owned(), sha256_hex: hash, ..Default::default() };
    let request = VolumePutFilesRequest {
        volume_id: volume.id.clone(),
        files: vec![file],
        disallow_overwrite_existing_files: true,
        ..Default::default()
    };
    volume.client.volume_put_files(request.clone()).await.unwrap();
    let status = volume.client.volume_put_files(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(volume.get("v1", (8, 0)).await.unwrap(), b"one");
}

#[tokio::test]
async fn volumes_are_named_paged_renamed_and_deleted() {
    let mut volume = Volume::new().await;
    let mut client = volume.client.clone();
    volume.put("/a", b"x", true).await.unwrap();
    let fail = create(&mut client, "data", ObjectCreationType::CreateFailIfExists).await;
    assert_eq!(fail, Err(Code::AlreadyExists));
    let missing = create(&mut client, "none", ObjectCreationType::Unspecified).await;
    assert_eq!(missing, Err(Code::NotFound));
    create(&mut client, "other", ObjectCreationType::CreateIfMissing).await.unwrap();
    let anonymous = create(&mut client, "", ObjectCreationType::Ephemeral).await.unwrap();
    let heartbeat = VolumeHeartbeatRequest { volume_id: anonymous };
    client.volume_heartbeat(heartbeat).await.unwrap();
    let id = volume.id.clone();
    let rename = |name: &str| VolumeRenameRequest { volume_id: id.clone(), name: name.to_owned() };
    let status = client.volume_rename(rename("other")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    client.volume_rename(rename("renamed")).await.unwrap();
    let pagination = Some(ListPagination { max_objects: 10, created_before: 0.0 });
    let list = VolumeListRequest { pagination, ..Default::default() };
    let items = client.volume_list(list).await.unwrap().into_inner().items;
    let names: Vec<&str> = items.iter().map(|item| item.label.as_str()).collect();
    assert_eq!(names, ["other", "renamed"]);
    let metadata = items[1].metadata.clone().unwrap();
    assert_eq!(metadata.version(), VolumeFsVersion::V2);
    let commit = VolumeCommitRequest { volume_id: id.clone(), ..Default::default() };
    client.volume_commit(commit).await.unwrap();
    client.volume_reload(VolumeReloadRequest { volume_id: id.clone() }).await.unwrap();
    let delete = VolumeDeleteRequest { volume_id: id.clone(), ..Default::default() };
    client.volume_delete(delete.clone()).await.unwrap();
    assert_eq!(client.volume_delete(delete).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(volume.get("/a", (0, 0)).await.unwrap_err().code(), Code::NotFound);
    assert!(!volume.tree().exists());
}

#[tokio::test]
async fn files_outlive_the_server() {
    let mut volume = Volume::new().await;
    volume.put("/a", b"kept", true).await.unwrap();
    volume.server.restart().await;
    volume.client = volume.server.client().await;
    assert_eq!(volume.get("/a", (0, 0)).await.unwrap(), b"kept");
}
