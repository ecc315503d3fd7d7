//! Reading a file of a volume: whole or in part, as a stream that checks what it gets.

use std::{
    fs::File,
    future::IntoFuture,
    io,
    ops::{Bound, RangeBounds},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _},
};
use modal_proto::client as api;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio_util::io::StreamReader;

use super::{
    Volume,
    blocks::BLOCK,
    place::{Misfit, Place},
    received::{BlockDigest, Received, digest_of},
};
use crate::{
    client::Client,
    error::{Error, Operation, Result},
    http::Arriving,
    ids::VolumeId,
    retry::RetryPolicy,
    rpc::methods,
};

/// Blocks fetched ahead of the reader.
pub(super) const AHEAD: usize = 4;

/// Opens a file; see [`Volume::read`].
#[derive(Debug, Clone)]
#[must_use = "nothing is asked until it is awaited"]
pub struct ReadFile {
    volume: Volume,
    path: String,
    start: u64,
    end: Option<u64>,
}

/// A file of a volume that is being read: an [`AsyncRead`], or with [`into_stream`](Self::into_stream) chunks.
///
/// A failed transfer is repeated, and each block is compared with its digest where the server sends one.
pub struct VolumeFile {
    size: u64,
    length: u64,
    reader: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
}

impl std::fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeFile")
            .field("size", &self.size)
            .field("length", &self.length)
            .finish()
    }
}

impl Volume {
    /// Opens a file for reading. One RPC, and a transfer for every 8 MiB.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist.
    pub fn read(&self, path: impl Into<String>) -> ReadFile {
        ReadFile { volume: self.clone(), path: path.into(), start: 0, end: None }
    }
}

impl ReadFile {
    /// Only these bytes of the file; what lies behind its end is left out.
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        self.start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        self.end = match range.end_bound() {
            Bound::Included(&end) => Some(end.saturating_add(1)),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => None,
        };
        self
    }

    /// The bytes themselves, in memory.
    pub async fn bytes(self) -> Result<Bytes> {
        let operation = self.volume.operation("read", &self.path);
        let mut file = self.send().await?;
        let mut all = Vec::with_capacity(file.length.min(BLOCK) as usize);
        file.read_to_end(&mut all).await.map_err(|error| unwrap(error, operation))?;
        Ok(all.into())
    }

    async fn send(self) -> Result<VolumeFile> {
        let found = self.find().await?;
        let (size, length) = (found.size, found.length);
        let fetches = stream::iter(found.parts().map(Part::receive));
        let body = fetches.buffered(AHEAD).map(|block| block.map_err(io::Error::from));
        let body = body.map_ok(|block| stream::iter(block.into_chunks().map(Ok))).try_flatten();
        Ok(VolumeFile { size, length, reader: reader(body.boxed()) })
    }

    /// Asks where the blocks are.
    pub(super) async fn find(self) -> Result<Found> {
        let operation = self.volume.operation("read", &self.path);
        let client = self.volume.client.clone();
        let wanted = self.end.map(|end| end.saturating_sub(self.start));
        if wanted == Some(0) {
            return Ok(Found { client, operation, size: 0, length: 0, pieces: Vec::new() });
        }
        let query = get_request(self.volume.id(), &self.path, self.start, wanted.unwrap_or(0));
        let answer = client.call(&methods::VOLUME_GET_FILE_2, &query, operation.clone()).await?;
        let pieces =
            pieces(&answer).map_err(|problem| Error::protocol(operation.clone(), problem))?;
        Ok(Found { client, operation, size: answer.size, length: answer.len, pieces })
    }
}

/// A file, or a part of one, whose blocks are known.
pub(super) struct Found {
    client: Client,
    operation: Operation,
    size: u64,
    length: u64,
    pieces: Vec<Piece>,
}

impl Found {
    /// How many bytes there are.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The parts in order, not yet asked for.
    pub(super) fn parts(self) -> impl Iterator<Item = Part> {
        let Self { client, operation, pieces, .. } = self;
        pieces.into_iter().map(move |piece| Part {
            client: client.clone(),
            operation: operation.clone(),
            piece,
        })
    }
}

impl IntoFuture for ReadFile {
    type Output = Result<VolumeFile>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl VolumeFile {
    /// The length of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes this reads: the length of the part that was asked for.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The contents as chunks instead.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.reader.into_inner()
    }
}

impl AsyncRead for VolumeFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

fn reader(
    body: BoxStream<'static, io::Result<Bytes>>,
) -> StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes> {
    StreamReader::new(body)
}

/// This crate's error, if an I/O error carries one.
fn unwrap(error: io::Error, operation: Operation) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Transport { operation, source: error.into() },
    }
}

pub(crate) fn get_request(
    volume: &VolumeId,
    path: &str,
    start: u64,
    len: u64,
) -> api::VolumeGetFile2Request {
    api::VolumeGetFile2Request {
        volume_id: volume.to_string(),
        path: path.to_owned(),
        start,
        len,
        client_pads_blocks: true,
    }
}

/// A part of one block: where it is, and how long it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    url: String,
    length: u64,
}

/// The pieces that make up the part of a file that the server answered with.
fn pieces(answer: &api::VolumeGetFile2Response) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::with_capacity(answer.get_urls.len());
    let end = answer.start.saturating_add(answer.len);
    let mut at = answer.start;
    for url in &answer.get_urls {
        let block_end = (at / BLOCK + 1) * BLOCK;
        let length = block_end.min(end).saturating_sub(at);
        pieces.push(Piece { url: url.clone(), length });
        at = block_end.min(end);
    }
    if at < end {
        let urls = answer.get_urls.len();
        return Err(format!("{urls} blocks cannot hold bytes {} to {end}", answer.start));
    }
    Ok(pieces)
}

/// A part of a file that can be asked for.
pub(super) struct Part {
    client: Client,
    operation: Operation,
    piece: Piece,
}

impl Part {
    /// How many of the file's bytes it is.
    pub(super) fn length(&self) -> u64 {
        self.piece.length
    }

    /// Its bytes, in memory.
    async fn receive(self) -> Result<Received> {
        let Self { client, operation, piece } = self;
        let answer = client.shared.http.get_in_pieces(&piece.url, RetryPolicy::DOWNLOAD).await;
        let answer =
            answer.map_err(|source| Error::Transport { operation: operation.clone(), source })?;
        let received = Received::check(answer.body, piece.length, digest(&answer.headers));
        received.await.map_err(|problem| Error::protocol(operation, problem))
    }

    /// Writes its bytes from `offset` of `file` on, while they come.
    ///
    /// # Errors
    /// One of this crate inside, unless the file can't be written.
    pub(super) async fn write_to(self, file: Arc<Mutex<File>>, offset: u64) -> io::Result<()> {
        let Self { client, operation, piece } = self;
        let place = Place::new(file, offset, piece.length);
        let take = |answer: Arriving| {
            let digest = digest(&answer.headers);
            place.clone().fill(answer, digest)
        };
        let http = &client.shared.http;
        let taken = http.get_arriving(&piece.url, RetryPolicy::DOWNLOAD, take).await;
        let taken =
            taken.map_err(|source| Error::Transport { operation: operation.clone(), source })?;
        match taken {
            Ok(()) => Ok(()),
            Err(Misfit::Write(source)) => Err(source),
            Err(Misfit::Block(problem)) => Err(Error::protocol(operation, problem).into()),
        }
    }
}

fn digest(headers: &http::HeaderMap) -> Option<BlockDigest> {
    headers.get("repr-digest").and_then(|value| value.to_str().ok()).and_then(digest_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(start: u64, len: u64, urls: usize) -> api::VolumeGetFile2Response {
        let get_urls = (0..urls).map(|n| n.to_string()).collect();
        api::VolumeGetFile2Response { get_urls, size: start + len, start, len }
    }

    fn lengths(start: u64, len: u64, urls: usize) -> Vec<u64> {
        pieces(&answer(start, len, urls)).unwrap().iter().map(|piece| piece.length).collect()
    }

    #[test]
    fn each_piece_ends_where_its_block_ends() {
        assert_eq!(lengths(0, 11, 1), [11]);
        assert_eq!(lengths(0, BLOCK + 1, 2), [BLOCK, 1]);
        assert_eq!(lengths(BLOCK - 3, 10, 2), [3, 7]);
        assert_eq!(lengths(0, 0, 0), [0; 0]);
        assert!(pieces(&answer(0, BLOCK + 1, 1)).is_err());
    }
}
