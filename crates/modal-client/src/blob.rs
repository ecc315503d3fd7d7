//! Blobs: files that are too long for a message are PUT to an address first.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use modal_proto::client as api;
use sha2::Sha256;

use crate::{
    client::Client,
    error::{BoxError, Error, Operation, Problem, Result},
    http::{Answer, Http},
    retry::RetryPolicy,
    rpc::methods,
};

/// The attempts that Modal's clients make for a blob: three.
const POLICY: RetryPolicy = RetryPolicy { retries: 2, ..RetryPolicy::UPLOAD };

/// Uploads bytes and returns the id of the blob.
pub(crate) async fn upload(client: &Client, data: Bytes, name: &Path) -> Result<String> {
    let operation = || Operation::new("upload", format!("`{}`", name.display()));
    let md5 = Md5::digest(&data);
    let query = create_request(&data, &md5);
    let answer = client.call(&methods::BLOB_CREATE, &query, operation()).await?;
    let targets = targets(answer).map_err(|problem| Error::protocol(operation(), problem))?;
    let mut last: BoxError = Box::new(Problem("the server names no place to upload to".to_owned()));
    for (id, target) in targets {
        match put(&client.shared.http, &target, &data).await {
            Ok(()) => return Ok(id),
            Err(error) => last = error,
        }
    }
    Err(Error::Transport { operation: operation(), source: last })
}

/// The bytes of a blob.
pub(crate) async fn download(client: &Client, id: &str) -> Result<Bytes> {
    let operation = || Operation::new("download", format!("blob `{id}`"));
    let query = api::BlobGetRequest { blob_id: id.to_owned(), ..Default::default() };
    let answer = client.call(&methods::BLOB_GET, &query, operation()).await?;
    let body = client.shared.http.get(&answer.download_url, RetryPolicy::DOWNLOAD).await;
    let body = body.map_err(|source| Error::Transport { operation: operation(), source })?;
    Ok(body.body)
}

fn create_request(data: &[u8], md5: &[u8]) -> api::BlobCreateRequest {
    api::BlobCreateRequest {
        content_md5: STANDARD.encode(md5),
        content_sha256_base64: STANDARD.encode(Sha256::digest(data)),
        content_length: data.len() as i64,
    }
}

/// Where a blob may go.
enum Target {
    Whole(String),
    Parts(api::MultiPartUpload),
}

/// The places of an answer with their blob ids, to be tried in order: the newer lists, else the older single one.
fn targets(answer: api::BlobCreateResponse) -> Result<Vec<(String, Target)>, String> {
    use api::blob_create_response::{UploadTypeOneof as One, UploadTypesOneof as Many};
    let targets: Vec<Target> = match (answer.upload_types_oneof, answer.upload_type_oneof) {
        (Some(Many::UploadUrls(list)), _) => list.items.into_iter().map(Target::Whole).collect(),
        (Some(Many::Multiparts(list)), _) => list.items.into_iter().map(Target::Parts).collect(),
        (None, Some(One::UploadUrl(url))) => return Ok(vec![(answer.blob_id, Target::Whole(url))]),
        (None, Some(One::Multipart(parts))) => {
            return Ok(vec![(answer.blob_id, Target::Parts(parts))]);
        }
        (None, None) => return Err("there is no place to upload to".to_owned()),
    };
    Ok(answer.blob_ids.into_iter().zip(targets).collect())
}

async fn put(http: &Http, target: &Target, data: &Bytes) -> Result<(), BoxError> {
    match target {
        Target::Whole(url) => put_part(http, url, data.clone()).await.map(drop),
        Target::Parts(parts) => put_parts(http, parts, data).await,
    }
}

/// PUTs a body; the answer's `ETag` must be its MD5. Returns that MD5 in hex.
async fn put_part(http: &Http, url: &str, data: Bytes) -> Result<String, BoxError> {
    let md5 = Md5::digest(&data);
    let mut headers = http::HeaderMap::new();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/octet-stream"),
    );
    if let Ok(value) = STANDARD.encode(md5).parse() {
        headers.insert("content-md5", value);
    }
    let answer = http.put(url, data, &headers, POLICY).await?;
    let expected = hex::encode(md5);
    if etag(&answer).is_some_and(|etag| etag == expected) {
        Ok(expected)
    } else {
        Err(Box::new(Problem("the server stored something else than was sent".to_owned())))
    }
}

fn etag(answer: &Answer) -> Option<&str> {
    let value = answer.headers.get(http::header::ETAG)?.to_str().ok()?;
    Some(value.trim_matches('"'))
}

async fn put_parts(
    http: &Http,
    parts: &api::MultiPartUpload,
    data: &Bytes,
) -> Result<(), BoxError> {
    let length = usize::try_from(parts.part_length).unwrap_or(0).max(1);
    let mut tags = Vec::new();
    for (n, url) in parts.upload_urls.iter().enumerate() {
        let start = (n * length).min(data.len());
        let end = (start + length).min(data.len());
        tags.push(put_part(http, url, data.slice(start..end)).await?);
    }
    let answer = http.post(&parts.completion_url, completion(&tags).into()).await?;
    let whole = format!(
        "{}-{}",
        hex::encode(Md5::digest(tags.iter().flat_map(hex::decode).flatten().collect::<Vec<u8>>())),
        tags.len()
    );
    if String::from_utf8_lossy(&answer.body).contains(&whole) {
        Ok(())
    } else {
        Err(Box::new(Problem("the parts that were sent were not put together".to_owned())))
    }
}

fn completion(tags: &[String]) -> String {
    let parts = tags.iter().enumerate().map(|(n, tag)| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>\"{tag}\"</ETag></Part>", n + 1)
    });
    format!(
        "<CompleteMultipartUpload>\n{}\n</CompleteMultipartUpload>",
        parts.collect::<Vec<_>>().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_lists_are_taken_before_the_single_address() {
        use api::blob_create_response::{UploadTypeOneof, UploadTypesOneof};
        let answer = api::BlobCreateResponse {
            blob_id: "bl-0".to_owned(),
            upload_type_oneof: Some(UploadTypeOneof::UploadUrl("old".to_owned())),
            blob_ids: vec!["bl-1".to_owned(), "bl-2".to_owned()],
            upload_types_oneof: Some(UploadTypesOneof::UploadUrls(api::UploadUrlList {
                items: vec!["a".to_owned(), "b".to_owned()],
            })),
        };
        let ids: Vec<String> = targets(answer).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["bl-1", "bl-2"]);
        assert!(targets(api::BlobCreateResponse::default()).is_err());
    }
}
