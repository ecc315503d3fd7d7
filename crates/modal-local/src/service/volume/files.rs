//! RPCs on the files of a volume that move no contents: list, copy, remove.

use futures::StreamExt as _;
use modal_proto::client::file_entry::FileType;
use modal_proto::client::{
    FileEntry, VolumeCopyFiles2Request, VolumeCopyFilesRequest, VolumeListFiles2Request,
    VolumeListFiles2Response, VolumeListFilesRequest, VolumeListFilesResponse,
    VolumeRemoveFile2Request, VolumeRemoveFileRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::id;
use crate::ctx::Ctx;
use crate::service::BoxStream;
use crate::state::volumes::entries::{self, Entry};
use crate::state::volumes::path::VolumePath;

/// Entries of one message.
const BATCH: usize = 500;
/// Messages that wait for a slow reader.
const QUEUE: usize = 4;

pub(in crate::service) async fn volume_list_files2(
    ctx: &Ctx,
    request: VolumeListFiles2Request,
) -> Result<BoxStream<VolumeListFiles2Response>, Status> {
    let VolumeListFiles2Request { volume_id, path, max_entries, recursive } = request;
    let batches = list(ctx, &volume_id, &path, max_entries, recursive).await?;
    Ok(batches.map(|it| it.map(|entries| VolumeListFiles2Response { entries })).boxed())
}

pub(in crate::service) async fn volume_list_files(
    ctx: &Ctx,
    request: VolumeListFilesRequest,
) -> Result<BoxStream<VolumeListFilesResponse>, Status> {
    let VolumeListFilesRequest { volume_id, path, max_entries, recursive } = request;
    let batches = list(ctx, &volume_id, &path, max_entries, recursive).await?;
    Ok(batches.map(|it| it.map(|entries| VolumeListFilesResponse { entries })).boxed())
}

async fn list(
    ctx: &Ctx,
    volume_id: &str,
    path: &str,
    max_entries: Option<u32>,
    recursive: bool,
) -> Result<BoxStream<Vec<FileEntry>>, Status> {
    let tree = ctx.volumes.tree(&id(volume_id)?).await?;
    let path = VolumePath::parse(path)?;
    let mut left = max_entries.filter(|max| *max > 0).unwrap_or(u32::MAX);
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        let listed = entries::list(&tree, &path, recursive, &mut |entry| {
            batch.push(file_entry(entry));
            left -= 1;
            let full = batch.len() == BATCH;
            let sent = !full || sender.blocking_send(Ok(std::mem::take(&mut batch))).is_ok();
            sent && left > 0
        });
        let last = listed.map(|()| batch).map_err(Status::from);
        if !matches!(&last, Ok(batch) if batch.is_empty()) {
            // A reader that is gone wants no more.
            let _ = sender.blocking_send(last);
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

/// An entry as clients read it.
pub(in crate::service) fn file_entry(entry: Entry) -> FileEntry {
    use rustix::fs::FileType as Kind;
    let kind = match entry.kind {
        Kind::RegularFile => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        _ => FileType::Unspecified,
    };
    FileEntry { path: entry.path, r#type: kind as i32, mtime: entry.modified, size: entry.size }
}

pub(in crate::service) async fn volume_copy_files2(
    ctx: &Ctx,
    request: VolumeCopyFiles2Request,
) -> Result<(), Status> {
    let VolumeCopyFiles2Request { volume_id, src_paths, dst_path, recursive } = request;
    ctx.volumes.copy_files(&id(&volume_id)?, &src_paths, &dst_path, recursive).await?;
    Ok(())
}

pub(in crate::service) async fn volume_copy_files(
    ctx: &Ctx,
    request: VolumeCopyFilesRequest,
) -> Result<(), Status> {
    let VolumeCopyFilesRequest { volume_id, src_paths, dst_path, recursive } = request;
    ctx.volumes.copy_files(&id(&volume_id)?, &src_paths, &dst_path, recursive).await?;
    Ok(())
}

pub(in crate::service) async fn volume_remove_file2(
    ctx: &Ctx,
    request: VolumeRemoveFile2Request,
) -> Result<(), Status> {
    ctx.volumes.remove_file(&id(&request.volume_id)?, &request.path, request.recursive).await?;
    Ok(())
}

pub(in crate::service) async fn volume_remove_file(
    ctx: &Ctx,
    request: VolumeRemoveFileRequest,
) -> Result<(), Status> {
    ctx.volumes.remove_file(&id(&request.volume_id)?, &request.path, request.recursive).await?;
    Ok(())
}
