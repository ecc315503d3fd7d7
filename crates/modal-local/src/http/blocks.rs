//! Contents of files of volumes, block by block.

use std::io::{Seek as _, SeekFrom};

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::text;
use crate::blocking;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::VolumeId;
use crate::state::blocks::other_hash;
use crate::state::cas::{Hashes, Sha256Hash, read_at_most};
use crate::state::volumes::path::VolumePath;
use crate::state::volumes::upload::BLOCK;

/// Blocks of at most this length are held in memory; larger ones go to a file as they come.
const SMALL: u64 = 256 << 10;

/// Takes the block that has this hash. The answer is what the client repeats as `put_response`.
pub(super) async fn put(ctx: &Ctx, sha256: &str, body: Body) -> Result<Response> {
    let expected = Sha256Hash::from_hex(sha256)?;
    if body.size_hint().upper().is_some_and(|length| length <= SMALL) {
        let data = axum::body::to_bytes(body, SMALL as usize).await;
        let data =
            data.map_err(|error| Error::invalid(format!("the upload broke off: {error}")))?;
        let cas = ctx.cas.clone();
        blocking::run(move || cas.put_block(&expected, &data)).await?;
    } else {
        let upload = ctx.cas.put_stream(body.into_data_stream(), BLOCK, Hashes::Name).await?;
        let came = upload.stored().hash;
        if came != expected {
            return Err(other_hash(&came, &expected));
        }
        upload.keep_block(&ctx.cas).await?;
    }
    Ok(text(sha256.to_owned()))
}

/// Gives a range of at most one block, with its digest.
///
/// A client that pads gets no trailing zeros. If the file has become shorter, zeros stand for what
/// is gone, as they would had it been written with a hole.
pub(super) async fn get(
    ctx: &Ctx,
    volume: &str,
    path: &str,
    (start, len): (u64, u64),
    trim: bool,
) -> Result<Response> {
    let tree = ctx.volumes.tree(&VolumeId::parse(volume)?).await?;
    let path = VolumePath::parse(path)?;
    let len = len.min(BLOCK);
    let known = ctx.volumes.known_blocks().clone();
    let (data, hash) = blocking::run(move || {
        let mut file = tree.open_file(&path)?;
        let mut data = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| read_at_most(&mut file, len))
            .map_err(Error::file("read", tree.location().join(path.to_string())))?;
        if trim {
            let kept = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            data.truncate(kept);
        } else {
            data.resize(usize::try_from(len).unwrap_or(0), 0);
        }
        // A block with its zeros has another hash than the one that it is known by.
        let known = if trim { known.block(&file, start, len) } else { None };
        let hash = known.unwrap_or_else(|| Sha256Hash::of(&data));
        Ok((data, hash))
    })
    .await?;
    let digest = format!("sha-256=:{}:", BASE64.encode(hash.as_bytes()));
    let mut response = text(data);
    let headers = response.headers_mut();
    if let Ok(digest) = HeaderValue::from_str(&digest) {
        headers.insert("repr-digest", digest);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}
