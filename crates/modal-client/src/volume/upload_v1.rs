//! Uploads to volumes of version 1: whole files by hash, then one request that names them all.

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use modal_proto::client as api;
use prost_types::Timestamp;

use super::{
    UploadSummary, Volume,
    blocks::{self, Contents},
    plan::Found,
    progress::{Listener, Tracker},
};
use crate::{
    error::{Error, Operation, Result},
    mount,
    retry::RetryPolicy,
    rpc::methods,
};

/// The server takes this long at most to have a file that was sent.
const PUT_LIMIT: Duration = Duration::from_secs(60 * 60);

/// How an upload is made.
pub(super) struct Options {
    pub(super) overwrite: bool,
    pub(super) parallel: usize,
    pub(super) listener: Listener,
}

/// A file whose hash is known.
struct Hashed {
    found: Found,
    size: u64,
    sha256: String,
}

/// A file that the server has.
struct Put {
    file: api::MountFile,
    checked_at: Option<Timestamp>,
    sent: u64,
}

pub(super) async fn send(
    volume: &Volume,
    files: Vec<Found>,
    options: Options,
    operation: Operation,
) -> Result<UploadSummary> {
    if files.is_empty() {
        return Ok(UploadSummary::default());
    }
    let hashing = files.into_iter().map(|found| hash(found, operation.clone()));
    let hashed: Vec<Hashed> =
        stream::iter(hashing).buffered(options.parallel.min(4)).try_collect().await?;
    let mut summary = UploadSummary {
        files: hashed.len() as u64,
        bytes: hashed.iter().map(|file| file.size).sum(),
        ..UploadSummary::default()
    };
    let tracker = Tracker::new(options.listener, summary.files, summary.bytes);
    let putting = hashed.into_iter().map(|file| put(volume, file, &tracker));
    let put: Vec<Put> = stream::iter(putting).buffered(options.parallel).try_collect().await?;
    for file in put.iter().filter(|file| file.sent > 0) {
        summary.blocks_sent += 1;
        summary.bytes_sent += file.sent;
    }
    let query = request(volume, put, options.overwrite);
    let mut call = volume.client.options(&methods::VOLUME_PUT_FILES, operation).await?;
    call.policy = RetryPolicy::SLOW;
    volume.client.call_with(&methods::VOLUME_PUT_FILES, &query, call).await?;
    tracker.add(summary.files, 0);
    Ok(summary)
}

async fn hash(found: Found, operation: Operation) -> Result<Hashed> {
    let path = found.contents.path();
    let contents = found.contents.clone();
    match tokio::task::spawn_blocking(move || contents.sha256()).await {
        Ok(Ok((size, sha256))) => Ok(Hashed { found, size, sha256: hex::encode(sha256) }),
        Ok(Err(source)) => Err(Error::file(operation, path, source)),
        Err(error) => Err(Error::file(operation, path, error.into())),
    }
}

async fn put(volume: &Volume, file: Hashed, tracker: &Tracker) -> Result<Put> {
    let operation = || volume.operation("upload", &file.found.remote);
    let query = api::MountPutFileRequest { sha256_hex: file.sha256.clone(), data_oneof: None };
    let answer = mount::put_file(&volume.client, &query, operation()).await?;
    if !answer.exists {
        send_contents(volume, &file, operation()).await?;
    }
    tracker.add(0, file.size);
    Ok(Put {
        sent: if answer.exists { 0 } else { file.size },
        checked_at: answer.checked_at,
        file: api::MountFile {
            filename: file.found.remote,
            sha256_hex: file.sha256,
            size: None,
            mode: Some(file.found.mode),
        },
    })
}

async fn send_contents(volume: &Volume, file: &Hashed, operation: Operation) -> Result<()> {
    let path = file.found.contents.path();
    let data = read(file.found.contents.clone()).await;
    let data = data.map_err(|source| Error::file(operation.clone(), &path, source))?;
    if hex::encode(blocks::hash(&data)) != file.sha256 {
        return Err(Error::invalid(operation, "the file changed while it was being uploaded"));
    }
    mount::send_file(&volume.client, file.sha256.clone(), data, &path, PUT_LIMIT).await
}

async fn read(contents: Contents) -> std::io::Result<bytes::Bytes> {
    tokio::task::spawn_blocking(move || contents.all()).await?
}

fn request(volume: &Volume, put: Vec<Put>, overwrite: bool) -> api::VolumePutFilesRequest {
    let earliest =
        put.iter().filter_map(|file| file.checked_at).min_by_key(|at| (at.seconds, at.nanos));
    api::VolumePutFilesRequest {
        volume_id: volume.id().to_string(),
        files: put.into_iter().map(|file| file.file).collect(),
        disallow_overwrite_existing_files: !overwrite,
        earliest_checked_at: earliest,
    }
}
