//! RPCs that move contents into and out of volumes. The bytes themselves go over HTTP.

use std::collections::HashSet;

use modal_proto::client::volume_get_file_response::DataOneof;
use modal_proto::client::volume_put_files2_response::MissingBlock;
use modal_proto::client::{
    VolumeGetFile2Request, VolumeGetFile2Response, VolumeGetFileRequest, VolumeGetFileResponse,
    VolumePutFiles2Request, VolumePutFiles2Response, VolumePutFilesRequest,
    volume_put_files2_request,
};
use tonic::Status;

use super::id;
use crate::auth::Grant;
use crate::blocking;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::state::cas::{Cas, Sha256Hash};
use crate::state::volumes::path::VolumePath;
use crate::state::volumes::upload::{BLOCK, FileSpec};

/// Most bytes of a file in one answer.
const MAX_INLINE: u64 = 128 << 20;

/// Names the blocks that are missing; once none is, writes the files.
///
/// Clients call it twice: before and after they uploaded the missing blocks.
pub(in crate::service) async fn volume_put_files2(
    ctx: &Ctx,
    request: VolumePutFiles2Request,
) -> Result<VolumePutFiles2Response, Status> {
    let volume = id(&request.volume_id)?;
    let files: Vec<FileSpec> = request.files.iter().map(file_spec).collect::<Result<_>>()?;
    let overwrite = !request.disallow_overwrite_existing_files;
    let overwrite = ctx.volumes.may_replace(&volume, &files, overwrite).await?;
    let (cas, specs) = (ctx.cas.clone(), files.clone());
    let missing = blocking::run(move || Ok(missing_blocks(&cas, &specs))).await?;
    if missing.is_empty() {
        ctx.volumes.put_files(&volume, files, overwrite).await?;
    }
    let missing_blocks = missing
        .into_iter()
        .map(|(file_index, block_index, hash)| MissingBlock {
            file_index,
            block_index,
            put_url: ctx.grant_url(&Grant::PutBlock { sha256: hash.to_string() }),
        })
        .collect();
    Ok(VolumePutFiles2Response { missing_blocks })
}

fn file_spec(file: &volume_put_files2_request::File) -> Result<FileSpec> {
    let blocks = file
        .blocks
        .iter()
        .map(|block| Sha256Hash::from_bytes(&block.contents_sha256))
        .collect::<Result<_>>()?;
    FileSpec::in_blocks(&file.path, file.size, file.mode, blocks)
}

/// Where each content that is not here is needed first: file, block, hash.
fn missing_blocks(cas: &Cas, files: &[FileSpec]) -> Vec<(u64, u64, Sha256Hash)> {
    let (mut seen, mut missing) = (HashSet::new(), Vec::new());
    for (file_index, file) in files.iter().enumerate() {
        for (block_index, hash) in file.blocks.iter().enumerate() {
            if seen.insert(*hash) && !cas.has_block(hash) {
                missing.push((file_index as u64, block_index as u64, *hash));
            }
        }
    }
    missing
}

/// Version 1: every file is one content, uploaded like a file of a mount.
pub(in crate::service) async fn volume_put_files(
    ctx: &Ctx,
    request: VolumePutFilesRequest,
) -> Result<(), Status> {
    let volume = id(&request.volume_id)?;
    let overwrite = !request.disallow_overwrite_existing_files;
    let cas = ctx.cas.clone();
    let files = blocking::run(move || {
        let spec = |file: modal_proto::client::MountFile| {
            let hash = Sha256Hash::from_hex(&file.sha256_hex)?;
            let length = cas.contains(&hash).then(|| cas.length(&hash)).flatten();
            let size = length.ok_or_else(|| {
                Error::Precondition(format!("the contents of `{}` are not here", file.filename))
            })?;
            FileSpec::whole(&file.filename, size, file.mode, hash)
        };
        request.files.into_iter().map(spec).collect::<Result<Vec<FileSpec>>>()
    })
    .await?;
    let overwrite = ctx.volumes.may_replace(&volume, &files, overwrite).await?;
    ctx.volumes.put_files(&volume, files, overwrite).await?;
    Ok(())
}

/// Where to download a file, or a range of one: a URL for each block that the range touches.
pub(in crate::service) async fn volume_get_file2(
    ctx: &Ctx,
    request: VolumeGetFile2Request,
) -> Result<VolumeGetFile2Response, Status> {
    let volume = id(&request.volume_id)?;
    let path = VolumePath::parse(&request.path)?;
    let tree = ctx.volumes.tree(&volume).await?;
    let name = path.clone();
    let size = blocking::run(move || {
        let file = tree.open_file(&name)?;
        file.metadata().map(|it| it.len()).map_err(Error::file("read", tree.location()))
    })
    .await?;
    let (start, len) = clip(size, request.start, request.len);
    let url = |(start, len)| {
        ctx.grant_url(&Grant::GetBlock {
            volume: volume.to_string(),
            path: path.to_string(),
            start,
            len,
            trim: request.client_pads_blocks,
        })
    };
    let get_urls = blocks(start, len).map(url).collect();
    Ok(VolumeGetFile2Response { get_urls, size, start, len })
}

/// A file, or a range of one, in the answer itself: how clients did it before they got URLs.
pub(in crate::service) async fn volume_get_file(
    ctx: &Ctx,
    request: VolumeGetFileRequest,
) -> Result<VolumeGetFileResponse, Status> {
    let volume = id(&request.volume_id)?;
    let path = VolumePath::parse(&request.path)?;
    let tree = ctx.volumes.tree(&volume).await?;
    let read = move || {
        let failed = || Error::file("read", tree.location());
        let file = tree.open_file(&path)?;
        let size = file.metadata().map_err(failed())?.len();
        let (start, len) = clip(size, request.start, request.len);
        if len > MAX_INLINE {
            return Err(Error::Precondition(format!(
                "{len} bytes are too many for one answer: use `VolumeGetFile2`, or ranges"
            )));
        }
        let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut data, start).map_err(failed())?;
        Ok((data, size, start, len))
    };
    let (data, size, start, len) = blocking::run(read).await?;
    let data_oneof = Some(DataOneof::Data(data));
    Ok(VolumeGetFileResponse { size, start, len, data_oneof })
}

/// The part of a file of `size` bytes that is asked for; a length of 0 means all that follows.
fn clip(size: u64, start: u64, len: u64) -> (u64, u64) {
    let start = start.min(size);
    let left = size - start;
    (start, if len == 0 { left } else { len.min(left) })
}

/// The ranges of a range, cut where blocks end.
fn blocks(start: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = start + len;
    let indices = if len == 0 { 0..0 } else { start / BLOCK..end.div_ceil(BLOCK) };
    indices.map(move |index| {
        let from = start.max(index * BLOCK);
        (from, end.min((index + 1) * BLOCK) - from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_blocks_and_at_the_end() {
        let ranges = |size, start, len| {
            let (start, len) = clip(size, start, len);
            blocks(start, len).collect::<Vec<_>>()
        };
        assert_eq!(ranges(0, 0, 0), []);
        assert_eq!(ranges(10, 0, 0), [(0, 10)]);
        assert_eq!(ranges(10, 4, 3), [(4, 3)]);
        assert_eq!(ranges(10, 10, 1), []);
        assert_eq!(ranges(10, u64::MAX, u64::MAX), []);
        assert_eq!(ranges(BLOCK, 0, 0), [(0, BLOCK)]);
        assert_eq!(ranges(2 * BLOCK + 1, BLOCK - 1, 3), [(BLOCK - 1, 1), (BLOCK, 2)]);
        assert_eq!(ranges(2 * BLOCK + 1, BLOCK, 0), [(BLOCK, BLOCK), (2 * BLOCK, 1)]);
    }

    #[test]
    fn a_missing_content_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        for part in ["cas", "tmp"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let cas = Cas::new(dir.path().join("cas"), dir.path().join("tmp"));
        let here = cas.put_bytes(b"here").unwrap();
        let gone = Sha256Hash::of(b"gone");
        let file = |hash| FileSpec::in_blocks("a", 4, None, vec![hash]).unwrap();
        let missing = missing_blocks(&cas, &[file(here), file(gone), file(gone)]);
        assert_eq!(missing, [(1, 0, gone)]);
    }
}
