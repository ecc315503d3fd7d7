//! Contents of blobs, as S3 would take and give them.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue};
use tokio_util::io::ReaderStream;

use super::text;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::BlobId;
use crate::state::blobs::BlobRecord;
use crate::state::cas::{Hashes, Stored};
use crate::state::incoming::Incoming;

/// Takes a whole blob.
pub(super) async fn put(
    ctx: &Ctx,
    blob: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response> {
    let blob = find(ctx, blob).await?;
    let limit = u64::try_from(blob.length).unwrap_or(0);
    let upload = ctx.cas.put_stream(body.into_data_stream(), limit, Hashes::NameAndMd5).await?;
    check_md5(headers, &upload)?;
    let stored = ctx.blobs.complete(&blob, upload).await?;
    Ok(with_md5(&stored))
}

/// Takes one part of a blob.
pub(super) async fn put_part(
    ctx: &Ctx,
    blob: &str,
    part: u32,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response> {
    let blob = find(ctx, blob).await?;
    let expected = ctx.blobs.part_length(&blob, part)?;
    let upload = ctx.cas.put_stream(body.into_data_stream(), expected, Hashes::NameAndMd5).await?;
    check_md5(headers, &upload)?;
    let came = upload.stored().length;
    if came != expected {
        let id = &blob.blob_id;
        return Err(Error::invalid(format!(
            "part {part} of blob `{id}` must have {expected} bytes, but {came} came"
        )));
    }
    let stored = ctx.blobs.keep_part(&blob, part, upload).await?;
    Ok(with_md5(&stored))
}

/// Puts the parts together; the answer has S3's form as far as clients look.
pub(super) async fn complete(ctx: &Ctx, blob: &str) -> Result<Response> {
    let blob = find(ctx, blob).await?;
    let (_, tag) = ctx.blobs.join_parts(&blob).await?;
    let mut response = text(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <CompleteMultipartUploadResult><ETag>&quot;{tag}&quot;</ETag></CompleteMultipartUploadResult>\n"
    ));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(response)
}

/// Gives a whole blob.
pub(super) async fn get(ctx: &Ctx, blob: &str) -> Result<Response> {
    let blob = find(ctx, blob).await?;
    let hash = blob.hash()?;
    let file = tokio::fs::File::from_std(ctx.cas.open(&hash)?);
    let mut response = text(Body::from_stream(ReaderStream::new(file)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

async fn find(ctx: &Ctx, blob: &str) -> Result<BlobRecord> {
    ctx.blobs.get(&BlobId::parse(blob)?).await
}

/// If the client says what the MD5 is, it must be right.
fn check_md5(headers: &HeaderMap, upload: &Incoming) -> Result<()> {
    let Some(said) = headers.get("content-md5") else { return Ok(()) };
    if BASE64.decode(said.as_bytes()).is_ok_and(|said| said == upload.stored().md5) {
        return Ok(());
    }
    // Python's client knows this text.
    Err(Error::invalid("The Content-MD5 you specified did not match what we received."))
}

fn with_md5(stored: &Stored) -> Response {
    let mut response = text(Body::empty());
    let tag = format!("\"{}\"", hex::encode(stored.md5));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
