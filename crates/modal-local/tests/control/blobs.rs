//! Blobs, at once and in parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use modal_proto::client::blob_create_response::{UploadTypeOneof, UploadTypesOneof};
use modal_proto::client::{BlobCreateRequest, BlobCreateResponse, BlobGetRequest};
use tonic::Code;

use crate::harness::{Client, TestServer, http};

async fn create(client: &mut Client, length: i64) -> BlobCreateResponse {
    let request = BlobCreateRequest { content_length: length, ..Default::default() };
    client.blob_create(request).await.unwrap().into_inner()
}

async fn download(client: &mut Client, blob_id: &str) -> Vec<u8> {
    let request = BlobGetRequest { blob_id: blob_id.to_owned(), ..Default::default() };
    let url = client.blob_get(request).await.unwrap().into_inner().download_url;
    let answer = http("GET", &url, &[], b"").await;
    assert_eq!(answer.status, 200);
    answer.body
}

fn md5_hex(data: &[u8]) -> String {
    hex::encode(Md5::digest(data))
}

#[tokio::test]
async fn a_small_blob_is_put_at_once() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let answer = create(&mut client, 5).await;
    let Some(UploadTypeOneof::UploadUrl(url)) = &answer.upload_type_oneof else { panic!() };
    let Some(UploadTypesOneof::UploadUrls(urls)) = &answer.upload_types_oneof else { panic!() };
    assert_eq!((urls.items.as_slice(), answer.blob_ids.len()), ([url.clone()].as_slice(), 1));
    let get = BlobGetRequest { blob_id: answer.blob_id.clone(), ..Default::default() };
    let early = client.blob_get(get).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    assert_eq!(http("PUT", url, &[], b"too long").await.status, 400);
    assert_eq!(http("PUT", url, &[], b"four").await.status, 400);
    let wrong = BASE64.encode(Md5::digest(b"other"));
    let refused = http("PUT", url, &[("content-md5", &wrong)], b"hello").await;
    assert_eq!(refused.status, 400);
    let right = BASE64.encode(Md5::digest(b"hello"));
    let put = http("PUT", url, &[("content-md5", &right)], b"hello").await;
    assert_eq!(put.status, 200);
    assert_eq!(put.headers["etag"].trim_matches('"'), md5_hex(b"hello"));
    assert_eq!(download(&mut client, &answer.blob_id).await, b"hello");
}

#[tokio::test]
async fn a_large_blob_is_put_in_parts() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let data: Vec<u8> = (0..1_001_u32).map(|it| (it % 251) as u8).collect();
    let answer = create(&mut client, data.len() as i64).await;
    let Some(UploadTypeOneof::Multipart(upload)) = answer.upload_type_oneof else { panic!() };
    assert_eq!((upload.part_length, upload.upload_urls.len()), (400, 3));
    assert_eq!(http("POST", &upload.completion_url, &[], b"").await.status, 412);
    let mut sums = Vec::new();
    for (part, url) in data.chunks(400).zip(&upload.upload_urls) {
        assert_eq!(http("PUT", url, &[], &part[1..]).await.status, 400);
        let put = http("PUT", url, &[], part).await;
        assert_eq!(put.headers["etag"].trim_matches('"'), md5_hex(part));
        sums.extend_from_slice(&Md5::digest(part));
    }
    let done = http("POST", &upload.completion_url, &[], b"<CompleteMultipartUpload/>").await;
    assert_eq!(done.status, 200);
    let body = String::from_utf8(done.body).unwrap();
    assert!(body.contains(&format!("{}-3", md5_hex(&sums))), "{body}");
    assert_eq!(download(&mut client, &answer.blob_id).await, data);
}

#[tokio::test]
async fn impossible_lengths_and_ids_are_refused() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for length in [-1, i64::MAX] {
        let request = BlobCreateRequest { content_length: length, ..Default::default() };
        let status = client.blob_create(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{length}");
    }
    for id in ["", "bl-../x", "../../keys.json"] {
        let request = BlobGetRequest { blob_id: id.to_owned(), ..Default::default() };
        let status = client.blob_get(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?}");
    }
    let empty = create(&mut client, 0).await;
    let Some(UploadTypeOneof::UploadUrl(url)) = &empty.upload_type_oneof else { panic!() };
    assert_eq!(http("PUT", url, &[], b"").await.status, 200);
    assert_eq!(download(&mut client, &empty.blob_id).await, b"");
}
