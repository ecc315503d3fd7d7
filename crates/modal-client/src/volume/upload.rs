//! Uploads: all files are named in one request with the hashes of their blocks, the server says which
//! blocks it lacks, those are sent, and the request is repeated with the receipts.

use std::{collections::HashMap, future::IntoFuture, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{
    future::{BoxFuture, FutureExt as _, TryFutureExt as _},
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;

use super::{
    Volume, VolumeVersion,
    blocks::{BLOCK, BlockHash, Contents},
    plan::{Planned, find_all, plan},
    progress::{Listener, Progress, Tracker},
    upload_v1,
};
use crate::{
    error::{Error, Operation, Result},
    ids::VolumeId,
    ignore_rules::IgnoreRules,
    retry::RetryPolicy,
    rpc::methods,
};

/// Blocks in flight at once; each is up to 8 MiB of memory.
const PARALLEL_BLOCKS: usize = 16;
const DEFAULT_MODE: u32 = 0o644;

/// Files to be put into a volume; see [`Volume::upload`].
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Upload {
    volume: Volume,
    items: Vec<Item>,
    overwrite: bool,
    parallel: usize,
    listener: Listener,
}

/// What is to be put.
#[derive(Debug, Clone)]
pub(super) enum Item {
    File { path: PathBuf, remote: String },
    Tree { root: PathBuf, remote: String, ignore: IgnoreRules },
    Bytes { data: Bytes, remote: String, mode: u32 },
}

/// What an upload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UploadSummary {
    /// Files that were put.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// Blocks that the volume lacked and that were sent; files, for a volume of version 1.
    pub blocks_sent: u64,
    /// What was sent of them: trailing zeros are not.
    pub bytes_sent: u64,
}

impl Volume {
    /// Puts files into the volume; what it has already is not sent again.
    ///
    /// ```no_run
    /// # async fn example(volume: modal_client::Volume) -> modal_client::Result<()> {
    /// volume.upload().file("Cargo.toml", "/Cargo.toml").tree("src", "/src").overwrite(true).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upload(&self) -> Upload {
        Upload {
            volume: self.clone(),
            items: Vec::new(),
            overwrite: false,
            parallel: PARALLEL_BLOCKS,
            listener: Listener::default(),
        }
    }
}

impl Upload {
    /// A local file, to be put at `remote`, with its mode.
    pub fn file(mut self, path: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.items.push(Item::File { path: path.into(), remote: remote.into() });
        self
    }

    /// Every file of a local directory, to be put below `remote`. Empty directories are not kept.
    pub fn tree(self, root: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.tree_without(root, remote, IgnoreRules::default())
    }

    /// As [`tree`](Self::tree), without the files that these rules leave out.
    pub fn tree_without(
        mut self,
        root: impl Into<PathBuf>,
        remote: impl Into<String>,
        ignore: IgnoreRules,
    ) -> Self {
        self.items.push(Item::Tree { root: root.into(), remote: remote.into(), ignore });
        self
    }

    /// Bytes, to be put at `remote` with mode 0644.
    pub fn bytes(self, data: impl Into<Bytes>, remote: impl Into<String>) -> Self {
        self.bytes_with_mode(data, remote, DEFAULT_MODE)
    }

    /// Bytes, to be put at `remote` with this mode.
    pub fn bytes_with_mode(
        mut self,
        data: impl Into<Bytes>,
        remote: impl Into<String>,
        mode: u32,
    ) -> Self {
        self.items.push(Item::Bytes {
            data: data.into(),
            remote: remote.into(),
            mode: mode & 0o7777,
        });
        self
    }

    /// Whether files that exist are replaced. Otherwise the upload fails with [`Error::AlreadyExists`],
    /// and nothing is put.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// How many blocks (of version 1: files) are on their way at once; 16 unless this is called. Each takes
    /// up to 8 MiB of memory.
    pub fn parallel(mut self, transfers: usize) -> Self {
        self.parallel = transfers.max(1);
        self
    }

    /// Calls `listener` whenever bytes have arrived. The files count as done when all of them are.
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    async fn send(self) -> Result<UploadSummary> {
        let operation =
            Operation::new("upload to", self.volume.client.object("volume", &self.volume.name));
        match self.volume.version {
            VolumeVersion::V1 => {
                let files = find_all(self.items.clone(), &operation).await?;
                let options = upload_v1::Options {
                    overwrite: self.overwrite,
                    parallel: self.parallel,
                    listener: self.listener.clone(),
                };
                upload_v1::send(&self.volume, files, options, operation).await
            }
            VolumeVersion::V2 => {
                let plan = plan(self.items.clone(), &operation).await?;
                self.send_blocks(plan, operation).await
            }
        }
    }

    async fn send_blocks(&self, plan: Vec<Planned>, operation: Operation) -> Result<UploadSummary> {
        if plan.is_empty() {
            return Ok(UploadSummary::default());
        }
        let mut summary = UploadSummary {
            files: plan.len() as u64,
            bytes: plan.iter().map(|file| file.hashed.size).sum(),
            ..UploadSummary::default()
        };
        let tracker = Tracker::new(self.listener.clone(), summary.files, summary.bytes);
        let mut receipts = HashMap::new();
        let missing = self.put(&plan, &receipts).await?;
        if missing.is_empty() {
            tracker.add(summary.files, summary.bytes);
            return Ok(summary);
        }
        let wanted = wanted(&plan, &missing)
            .map_err(|problem| Error::protocol(operation.clone(), problem))?;
        let sizes = sizes(&plan);
        let lacking: u64 = wanted.iter().map(|block| sizes[&block.hash]).sum();
        tracker.add(0, summary.bytes.saturating_sub(lacking));
        let sending = stream::iter(wanted.into_iter().map(|block| {
            let size = sizes[&block.hash];
            let tracker = &tracker;
            self.send_block(block, &plan).inspect_ok(move |_| tracker.add(0, size)).boxed()
        }));
        let sent: Vec<(BlockHash, Bytes, u64)> =
            sending.buffer_unordered(self.parallel).try_collect().await?;
        for (hash, receipt, length) in sent {
            summary.blocks_sent += 1;
            summary.bytes_sent += length;
            receipts.insert(hash, receipt);
        }
        let still_missing = self.put(&plan, &receipts).await?;
        if still_missing.is_empty() {
            tracker.add(summary.files, 0);
            return Ok(summary);
        }
        let problem = format!("{} blocks are missing after they were sent", still_missing.len());
        Err(Error::protocol(operation, problem))
    }

    async fn put(
        &self,
        plan: &[Planned],
        receipts: &HashMap<BlockHash, Bytes>,
    ) -> Result<Vec<api::volume_put_files2_response::MissingBlock>> {
        let client = &self.volume.client;
        let operation = Operation::new("upload to", client.object("volume", &self.volume.name));
        let mut options = client.options(&methods::VOLUME_PUT_FILES_2, operation).await?;
        options.policy = RetryPolicy::SLOW;
        let query = put_request(&self.volume.id, plan, receipts, self.overwrite);
        let answer = client.call_with(&methods::VOLUME_PUT_FILES_2, &query, options).await?;
        Ok(answer.missing_blocks)
    }

    async fn send_block(&self, block: Wanted, plan: &[Planned]) -> Result<(BlockHash, Bytes, u64)> {
        let file = &plan[block.file];
        let operation = || self.volume.operation("upload", &file.remote);
        let data = read_block(file, block.index).await;
        let data = data.map_err(|it| Error::file(operation(), file.contents.path(), it))?;
        let changed = "the file changed while it was being uploaded";
        let data = data.ok_or_else(|| Error::invalid(operation(), changed))?;
        let mut headers = http::HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/octet-stream"),
        );
        let length = data.len() as u64;
        let http = &self.volume.client.shared.http;
        let answer = http.put(&block.url, data, &headers, RetryPolicy::UPLOAD).await;
        let answer =
            answer.map_err(|source| Error::Transport { operation: operation(), source })?;
        Ok((block.hash, answer.body, length))
    }
}

impl IntoFuture for Upload {
    type Output = Result<UploadSummary>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// `None` if the file is not what it was when it was hashed.
async fn read_block(file: &Planned, index: u64) -> std::io::Result<Option<Bytes>> {
    if matches!(file.contents, Contents::Memory(_)) {
        return file.contents.block(index, &file.hashed);
    }
    let (contents, hashed) = (file.contents.clone(), Arc::clone(&file.hashed));
    tokio::task::spawn_blocking(move || contents.block(index, &hashed)).await?
}

/// A block to be sent: once for each hash, however many files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    file: usize,
    index: u64,
    hash: BlockHash,
    url: String,
}

/// How many bytes of the files each block stands for, wherever it occurs.
fn sizes(plan: &[Planned]) -> HashMap<BlockHash, u64> {
    let mut sizes = HashMap::new();
    for file in plan {
        for (n, hash) in file.hashed.blocks.iter().enumerate() {
            let start = n as u64 * BLOCK;
            *sizes.entry(*hash).or_default() += file.hashed.size.saturating_sub(start).min(BLOCK);
        }
    }
    sizes
}

pub(crate) fn put_request(
    volume: &VolumeId,
    plan: &[Planned],
    receipts: &HashMap<BlockHash, Bytes>,
    overwrite: bool,
) -> api::VolumePutFiles2Request {
    use api::volume_put_files2_request::{Block, File};
    let files = plan.iter().map(|file| File {
        path: file.remote.clone(),
        size: file.hashed.size,
        mode: Some(file.mode),
        blocks: file
            .hashed
            .blocks
            .iter()
            .map(|hash| Block {
                contents_sha256: hash.to_vec(),
                put_response: receipts.get(hash).map(|receipt| receipt.to_vec()),
            })
            .collect(),
    });
    api::VolumePutFiles2Request {
        volume_id: volume.to_string(),
        files: files.collect(),
        disallow_overwrite_existing_files: !overwrite,
    }
}

/// The blocks to send, each hash once.
fn wanted(
    plan: &[Planned],
    missing: &[api::volume_put_files2_response::MissingBlock],
) -> Result<Vec<Wanted>, String> {
    let mut by_hash = HashMap::new();
    let mut order = Vec::new();
    for block in missing {
        let file = usize::try_from(block.file_index).ok().filter(|&file| file < plan.len());
        let found = file.and_then(|file| {
            let index = usize::try_from(block.block_index).ok()?;
            plan[file].hashed.blocks.get(index).map(|hash| (file, *hash))
        });
        let Some((file, hash)) = found else {
            return Err(format!(
                "block {} of file {} was not offered",
                block.block_index, block.file_index
            ));
        };
        if by_hash.insert(hash, ()).is_none() {
            order.push(Wanted { file, index: block.block_index, hash, url: block.put_url.clone() });
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(remote: &str, bytes: &'static [u8]) -> Planned {
        let contents = Contents::Memory(Bytes::from_static(bytes));
        let (contents, hashed) = contents.into_hashed(0).unwrap();
        let hashed = Arc::new(hashed);
        Planned { contents, remote: remote.to_owned(), mode: DEFAULT_MODE, hashed }
    }

    fn missing(file_index: u64, block_index: u64) -> api::volume_put_files2_response::MissingBlock {
        api::volume_put_files2_response::MissingBlock {
            file_index,
            block_index,
            put_url: "u".to_owned(),
        }
    }

    #[test]
    fn equal_blocks_are_sent_once_and_share_their_receipt() {
        let plan = [planned("/a", b"same"), planned("/b", b"same"), planned("/c", b"other")];
        let blocks = wanted(&plan, &[missing(0, 0), missing(1, 0), missing(2, 0)]).unwrap();
        assert_eq!(blocks.iter().map(|block| block.file).collect::<Vec<_>>(), [0, 2]);
        let receipts = HashMap::from([(blocks[0].hash, Bytes::from_static(b"receipt"))]);
        let id = "vo-1".parse().unwrap();
        let request = put_request(&id, &plan, &receipts, true);
        let with_receipt: Vec<bool> =
            request.files.iter().map(|file| file.blocks[0].put_response.is_some()).collect();
        assert_eq!(with_receipt, [true, true, false]);
        assert!(!request.disallow_overwrite_existing_files);
    }

    #[test]
    fn a_block_that_was_not_offered_is_an_error() {
        let plan = [planned("/a", b"x")];
        assert!(wanted(&plan, &[missing(1, 0)]).is_err());
        assert!(wanted(&plan, &[missing(0, 1)]).is_err());
    }
}
