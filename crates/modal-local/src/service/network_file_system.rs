//! RPCs of network file systems: what came before volumes, and is kept like one.
//!
//! Paths in lists are as clients of 1.6 read them: a directory's entries by their names alone, a file by its path, and what matches a
//! pattern (`*` within a name, `**` across directories) by paths from the root.

use std::io::Read as _;

use futures::{StreamExt as _, stream};
use globset::{Glob, GlobBuilder};
use modal_proto::client::file_entry::FileType;
use modal_proto::client::shared_volume_get_file_response::DataOneof;
use modal_proto::client::shared_volume_put_file_request::DataOneof as Contents;
use modal_proto::client::{
    FileEntry, SharedVolumeDeleteRequest, SharedVolumeGetFileRequest, SharedVolumeGetFileResponse,
    SharedVolumeGetOrCreateRequest, SharedVolumeGetOrCreateResponse, SharedVolumeHeartbeatRequest,
    SharedVolumeListFilesRequest, SharedVolumeListFilesResponse, SharedVolumeListItem,
    SharedVolumeListRequest, SharedVolumeListResponse, SharedVolumePutFileRequest,
    SharedVolumePutFileResponse, SharedVolumeRemoveFileRequest,
};
use tonic::Status;

use super::volume::{file_entry, wrong_kind};
use crate::blocking;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{BlobId, NetworkFileSystemId, VolumeId};
use crate::service::BoxStream;
use crate::state::cas::Sha256Hash;
use crate::state::creation::Creation;
use crate::state::volumes::path::VolumePath;
use crate::state::volumes::tree::Tree;
use crate::state::volumes::upload::FileSpec;
use crate::state::volumes::{Kind, VolumeRecord, entries};

/// Most bytes of a file in an answer; there is no other way to send one.
const MAX_INLINE: u64 = 128 << 20;
/// Entries of one message.
const BATCH: usize = 500;

pub(super) async fn shared_volume_get_or_create(
    ctx: &Ctx,
    request: SharedVolumeGetOrCreateRequest,
) -> Result<SharedVolumeGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let name = &request.deployment_name;
    let creation = Creation::from_request(request.object_creation_type, name, &request.app_id)?;
    let answer = |record: &VolumeRecord| SharedVolumeGetOrCreateResponse {
        shared_volume_id: NetworkFileSystemId::of_volume(&record.volume_id),
    };
    let kind = Kind::NetworkFileSystem;
    let record = ctx.volumes.get_or_create(&environment, &creation, kind, answer).await?;
    if !record.is_network_file_system() {
        return Err(wrong_kind("vo"));
    }
    Ok(answer(&record))
}

pub(super) async fn shared_volume_list(
    ctx: &Ctx,
    request: SharedVolumeListRequest,
) -> Result<SharedVolumeListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let records = ctx.volumes.network_file_systems(&environment).await?;
    let items = records.into_iter().map(|record| SharedVolumeListItem {
        label: record.name.unwrap_or_default(),
        shared_volume_id: NetworkFileSystemId::of_volume(&record.volume_id),
        created_at: record.created_at,
        ..SharedVolumeListItem::default()
    });
    Ok(SharedVolumeListResponse { items: items.collect(), environment_name: environment.name })
}

pub(super) async fn shared_volume_delete(
    ctx: &Ctx,
    request: SharedVolumeDeleteRequest,
) -> Result<(), Status> {
    Ok(ctx.volumes.delete(&volume(ctx, &request.shared_volume_id).await?).await?)
}

pub(super) async fn shared_volume_heartbeat(
    ctx: &Ctx,
    request: SharedVolumeHeartbeatRequest,
) -> Result<(), Status> {
    Ok(ctx.volumes.heartbeat(&volume(ctx, &request.shared_volume_id).await?).await?)
}

/// Writes a file, whose bytes are in the request or in a blob.
pub(super) async fn shared_volume_put_file(
    ctx: &Ctx,
    request: SharedVolumePutFileRequest,
) -> Result<SharedVolumePutFileResponse, Status> {
    let volume = volume(ctx, &request.shared_volume_id).await?;
    let (size, hash) = contents(ctx, request.data_oneof).await?;
    let file = FileSpec::whole(&request.path, size, None, hash)?;
    ctx.volumes.put_files(&volume, vec![file], true).await?;
    Ok(SharedVolumePutFileResponse { exists: true })
}

async fn contents(ctx: &Ctx, contents: Option<Contents>) -> Result<(u64, Sha256Hash)> {
    match contents {
        Some(Contents::DataBlobId(id)) => {
            let blob = ctx.blobs.get(&BlobId::parse(&id)?).await?;
            Ok((u64::try_from(blob.length).unwrap_or(0), blob.hash()?))
        }
        Some(Contents::Data(data)) => put(ctx, data).await,
        None => put(ctx, Vec::new()).await,
    }
}

async fn put(ctx: &Ctx, data: Vec<u8>) -> Result<(u64, Sha256Hash)> {
    let cas = ctx.cas.clone();
    blocking::run(move || Ok((data.len() as u64, cas.put_bytes(&data)?))).await
}

pub(super) async fn shared_volume_get_file(
    ctx: &Ctx,
    request: SharedVolumeGetFileRequest,
) -> Result<SharedVolumeGetFileResponse, Status> {
    let tree = ctx.volumes.tree(&volume(ctx, &request.shared_volume_id).await?).await?;
    let path = VolumePath::parse(&request.path)?;
    let read = move || {
        let file = tree.open_file(&path)?;
        let mut data = Vec::new();
        let read = file.take(MAX_INLINE + 1).read_to_end(&mut data);
        read.map_err(Error::file("read", tree.location()))?;
        if data.len() as u64 > MAX_INLINE {
            return Err(Error::Precondition(format!(
                "`{path}` has more than {MAX_INLINE} bytes, too many for one answer"
            )));
        }
        Ok(data)
    };
    let data_oneof = Some(DataOneof::Data(blocking::run(read).await?));
    Ok(SharedVolumeGetFileResponse { data_oneof })
}

pub(super) async fn shared_volume_list_files(
    ctx: &Ctx,
    request: SharedVolumeListFilesRequest,
) -> Result<SharedVolumeListFilesResponse, Status> {
    let tree = ctx.volumes.tree(&volume(ctx, &request.shared_volume_id).await?).await?;
    let entries = blocking::run(move || list(&tree, &request.path)).await?;
    Ok(SharedVolumeListFilesResponse { entries })
}

pub(super) async fn shared_volume_list_files_stream(
    ctx: &Ctx,
    request: SharedVolumeListFilesRequest,
) -> Result<BoxStream<SharedVolumeListFilesResponse>, Status> {
    let SharedVolumeListFilesResponse { entries } = shared_volume_list_files(ctx, request).await?;
    let batches = entries.chunks(BATCH).map(<[FileEntry]>::to_vec);
    let answers: Vec<_> =
        batches.map(|entries| SharedVolumeListFilesResponse { entries }).collect();
    Ok(stream::iter(answers.into_iter().map(Ok)).boxed())
}

pub(super) async fn shared_volume_remove_file(
    ctx: &Ctx,
    request: SharedVolumeRemoveFileRequest,
) -> Result<(), Status> {
    let volume = volume(ctx, &request.shared_volume_id).await?;
    Ok(ctx.volumes.remove_file(&volume, &request.path, request.recursive).await?)
}

/// The volume behind a network file system; volumes themselves are refused.
async fn volume(ctx: &Ctx, id: &str) -> Result<VolumeId> {
    let id = NetworkFileSystemId::parse(id)?;
    let volume = id.volume();
    match ctx.volumes.get(&volume).await {
        Ok(record) if record.is_network_file_system() => Ok(volume),
        Ok(_) => Err(Error::not_found("network file system", &id)),
        Err(error) if error.is_not_found() => Err(Error::not_found("network file system", &id)),
        Err(error) => Err(error),
    }
}

/// What clients see at a path, or at what matches a pattern. Blocks.
fn list(tree: &Tree, path: &str) -> Result<Vec<FileEntry>> {
    let mut found = Vec::new();
    if path.contains('*') {
        let pattern = pattern(path)?.compile_matcher();
        entries::list(tree, &VolumePath::default(), true, &mut |entry| {
            found.push(file_entry(entry));
            true
        })?;
        found.retain(|it| it.r#type == FileType::File as i32 && pattern.is_match(&it.path));
        return Ok(found);
    }
    let path = VolumePath::parse(path)?;
    let directory = format!("{path}/");
    entries::list(tree, &path, false, &mut |entry| {
        let mut entry = file_entry(entry);
        if let Some(name) = entry.path.strip_prefix(&directory) {
            entry.path = name.to_owned();
        }
        found.push(entry);
        true
    })?;
    Ok(found)
}

fn pattern(text: &str) -> Result<Glob> {
    let relative = text.trim_start_matches('/');
    let glob = GlobBuilder::new(relative).literal_separator(true).build();
    glob.map_err(|error| Error::invalid(format!("`{text}` is no pattern: {error}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lists_are_of_names_files_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.txt", "d/b.txt", "d/e/c.txt", "d/e/c.bin"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let tree = Tree::open(dir.path()).unwrap();
        let paths = |at: &str| {
            let found = list(&tree, at).unwrap();
            found.into_iter().map(|entry| entry.path).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(paths("/"), "a.txt d");
        assert_eq!(paths("/d"), "b.txt e");
        assert_eq!(paths("d/b.txt"), "d/b.txt");
        assert_eq!(paths("/*.txt"), "a.txt");
        assert_eq!(paths("**"), "a.txt d/b.txt d/e/c.bin d/e/c.txt");
        assert_eq!(paths("d/**/*.txt"), "d/b.txt d/e/c.txt");
        assert!(list(&tree, "nope").unwrap_err().is_not_found());
    }
}
