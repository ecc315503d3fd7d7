//! Listing the files of a volume.

use std::{
    future::IntoFuture,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;

use super::{Volume, VolumeVersion};
use crate::{
    error::{Error, Operation, Result},
    ids::VolumeId,
    retry,
    rpc::{methods, status},
};

/// A file or directory of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeEntry {
    /// Its path from the root of the volume, without a leading slash.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed, where the server says it.
    pub modified_at: Option<SystemTime>,
}

/// What an entry of a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Something else: a pipe, a socket.
    Other,
}

/// Lists a directory; see [`Volume::list`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited or streamed"]
pub struct ListFiles {
    volume: Volume,
    path: String,
    recursive: bool,
}

impl Volume {
    /// Lists a directory, or a file: awaited it is a `Vec`, or see [`ListFiles::stream`]. One RPC.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) if there is nothing at `path`.
    pub fn list(&self, path: impl Into<String>) -> ListFiles {
        ListFiles { volume: self.clone(), path: path.into(), recursive: false }
    }
}

impl ListFiles {
    /// Whether everything below is listed too.
    pub fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    /// The entries as they come. A listing that breaks off cannot be resumed: it ends with an error.
    pub fn stream(self) -> BoxStream<'static, Result<VolumeEntry>> {
        stream::once(self.open()).try_flatten().boxed()
    }

    async fn open(self) -> Result<BoxStream<'static, Result<VolumeEntry>>> {
        let operation = self.volume.operation("list", &self.path);
        let wire = &self.volume.client.shared.wire;
        let metadata = self.volume.client.metadata();
        let id = self.volume.id();
        match self.volume.version {
            VolumeVersion::V2 => {
                let query = list_request(id, &self.path, self.recursive);
                let opened =
                    wire.stream(&methods::VOLUME_LIST_FILES_2, query, metadata, None).await;
                let batches = opened.map(|batches| batches.map_ok(|batch| batch.entries));
                entries(batches, methods::VOLUME_LIST_FILES_2.name, operation)
            }
            VolumeVersion::V1 => {
                let query = api::VolumeListFilesRequest {
                    volume_id: id.to_string(),
                    path: self.path.clone(),
                    recursive: self.recursive,
                    max_entries: None,
                };
                let opened = wire.stream(&methods::VOLUME_LIST_FILES, query, metadata, None).await;
                let batches = opened.map(|batches| batches.map_ok(|batch| batch.entries));
                entries(batches, methods::VOLUME_LIST_FILES.name, operation)
            }
        }
    }

    /// All entries. A listing is read-only, so one that breaks off is begun again.
    async fn collect(self) -> Result<Vec<VolumeEntry>> {
        let policy = retry::RetryPolicy::CONTROL;
        let mut retries = 0;
        loop {
            match self.clone().stream().try_collect().await {
                // A wait that the server asks for uses no retry.
                Err(Error::RateLimited { retry_after: Some(wait), .. }) => {
                    tokio::time::sleep(wait).await;
                }
                Err(error) if error.is_transient() && retries < policy.retries => {
                    tokio::time::sleep(policy.jittered(retries)).await;
                    retries += 1;
                }
                settled => return settled,
            }
        }
    }
}

impl IntoFuture for ListFiles {
    type Output = Result<Vec<VolumeEntry>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.collect())
    }
}

fn entries<S>(
    batches: Result<S, tonic::Status>,
    rpc: &'static str,
    operation: Operation,
) -> Result<BoxStream<'static, Result<VolumeEntry>>>
where
    S: stream::Stream<Item = Result<Vec<api::FileEntry>, tonic::Status>> + Send + 'static,
{
    let error = move |status: tonic::Status| {
        let wait = retry::retry_after(&status);
        status::into_error(operation.clone(), rpc, &status, 1, wait)
    };
    let batches = batches.map_err(&error)?;
    let entries = batches
        .map_err(error)
        .map_ok(|batch| stream::iter(batch.into_iter().map(|entry| Ok(VolumeEntry::from(entry)))));
    Ok(entries.try_flatten().boxed())
}

pub(crate) fn list_request(
    volume: &VolumeId,
    path: &str,
    recursive: bool,
) -> api::VolumeListFiles2Request {
    api::VolumeListFiles2Request {
        volume_id: volume.to_string(),
        path: path.to_owned(),
        recursive,
        max_entries: None,
    }
}

impl From<api::FileEntry> for VolumeEntry {
    fn from(entry: api::FileEntry) -> Self {
        use api::file_entry::FileType;
        let kind = match entry.r#type() {
            FileType::File => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            _ => EntryKind::Other,
        };
        let modified_at = (entry.mtime > 0).then(|| UNIX_EPOCH + Duration::from_secs(entry.mtime));
        Self { path: entry.path, kind, size: entry.size, modified_at }
    }
}
