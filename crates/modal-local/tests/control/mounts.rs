//! Mounts: contents by hash, then a list of files.

use modal_proto::client::mount_put_file_request::DataOneof;
use modal_proto::client::{
    MountBatchedCheckExistenceRequest, MountFile, MountGetOrCreateRequest, MountPutFileRequest,
    ObjectCreationType,
};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::harness::{Client, TestServer};

fn hash(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

async fn put(
    client: &mut Client,
    sha256_hex: &str,
    data: Option<&'static [u8]>,
) -> Result<bool, Code> {
    let data_oneof = data.map(|data| DataOneof::Data(data.into()));
    let request = MountPutFileRequest { sha256_hex: sha256_hex.to_owned(), data_oneof };
    client.mount_put_file(request).await.map(|it| it.into_inner().exists).map_err(|it| it.code())
}

fn mount(name: &str, kind: ObjectCreationType, files: &[(&str, &[u8])]) -> MountGetOrCreateRequest {
    let file = |(filename, data): &(&str, &[u8])| MountFile {
        filename: (*filename).to_owned(),
        sha256_hex: hash(data),
        mode: Some(0o644),
        ..Default::default()
    };
    MountGetOrCreateRequest {
        deployment_name: name.to_owned(),
        object_creation_type: kind as i32,
        files: files.iter().map(file).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn contents_are_checked_and_known_afterwards() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let (here, gone) = (hash(b"here"), hash(b"gone"));
    assert_eq!(put(&mut client, &here, None).await, Ok(false));
    assert_eq!(put(&mut client, &here, Some(b"here")).await, Ok(true));
    assert_eq!(put(&mut client, &gone, Some(b"not it")).await, Err(Code::InvalidArgument));
    assert_eq!(put(&mut client, "../../x", Some(b"x")).await, Err(Code::InvalidArgument));
    let check = MountBatchedCheckExistenceRequest { sha256_hex_hashes: vec![here, gone.clone()] };
    let missing = client.mount_batched_check_existence(check).await.unwrap().into_inner();
    assert_eq!(missing.missing_sha256_hex_hashes, [gone]);
    assert!(missing.checked_at.is_some());
}

#[tokio::test]
async fn equal_files_have_equal_checksums() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    put(&mut client, &hash(b"a"), Some(b"a")).await.unwrap();
    put(&mut client, &hash(b"b"), Some(b"b")).await.unwrap();
    let files: [(&str, &[u8]); 2] = [("/x/a", b"a"), ("/x/b", b"b")];
    let swapped: [(&str, &[u8]); 2] = [("/x/b", b"b"), ("x//a", b"a")];
    let mut make = async |name: &str, kind, files: &[(&str, &[u8])]| {
        client.mount_get_or_create(mount(name, kind, files)).await.map(|it| it.into_inner())
    };
    let one = make("", ObjectCreationType::Ephemeral, &files).await.unwrap();
    let two = make("", ObjectCreationType::Ephemeral, &swapped).await.unwrap();
    assert_ne!(one.mount_id, two.mount_id);
    assert_eq!(one.handle_metadata, two.handle_metadata);
    let named = make("m", ObjectCreationType::CreateIfMissing, &files).await.unwrap();
    let again = make("m", ObjectCreationType::CreateIfMissing, &files[..1]).await.unwrap();
    assert_eq!(named.mount_id, again.mount_id);
    let other = make("m", ObjectCreationType::CreateOverwriteIfExists, &files[..1]).await.unwrap();
    assert_ne!(named.mount_id, other.mount_id);
    let found = make("m", ObjectCreationType::Unspecified, &[]).await.unwrap();
    assert_eq!(found.mount_id, other.mount_id);
    let status = make("m", ObjectCreationType::CreateFailIfExists, &files).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn files_that_lead_out_or_are_not_here_are_refused() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    put(&mut client, &hash(b"a"), Some(b"a")).await.unwrap();
    for (name, code) in [
        ("/../../etc/passwd", Code::InvalidArgument),
        ("/a/../b", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("/a\0", Code::InvalidArgument),
    ] {
        let request = mount("", ObjectCreationType::Ephemeral, &[(name, b"a")]);
        let status = client.mount_get_or_create(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{name:?}");
    }
    let request = mount("", ObjectCreationType::Ephemeral, &[("/a", b"never uploaded")]);
    let status = client.mount_get_or_create(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}
