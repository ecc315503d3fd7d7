//! Blobs: uploads too large for a message, given out as ids.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use md5::{Digest as _, Md5};
use sqlx::SqlitePool;

use super::cas::{Cas, Hashes, Sha256Hash, Stored};
use super::incoming::Incoming;
use crate::clock;
use crate::durable;
use crate::error::{Error, Result};
use crate::ids::BlobId;
use crate::state_dir::StateDir;

/// Most parts of a blob, as S3 has it.
const MAX_PARTS: u64 = 10_000;
/// How much of a part is read at once.
const CHUNK: usize = 1024 * 1024;

/// From which length on blobs are uploaded in parts, and how long those are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSizes {
    /// Blobs of this many bytes and more come in parts. Clients compute no MD5 of blobs above 1 GiB,
    /// so it must not be larger than that.
    pub from: u64,
    /// The length of every part but the last, in bytes.
    pub part: u64,
}

impl Default for PartSizes {
    fn default() -> Self {
        Self { from: 1 << 30, part: 64 << 20 }
    }
}

/// A blob's record.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct BlobRecord {
    pub(crate) blob_id: String,
    /// Set once the blob is uploaded.
    pub(crate) sha256_hex: Option<String>,
    pub(crate) length: i64,
    /// How many parts it is uploaded in; 0 for a blob uploaded at once.
    pub(crate) parts: i64,
}

impl BlobRecord {
    /// Its content, if it has been uploaded.
    pub(crate) fn hash(&self) -> Result<Sha256Hash> {
        let hash = self.sha256_hex.as_deref().ok_or_else(|| {
            Error::Precondition(format!("blob `{}` has not been uploaded", self.blob_id))
        })?;
        Sha256Hash::from_hex(hash)
    }
}

/// The blobs of this server. Clones share them.
#[derive(Clone)]
pub(crate) struct Blobs {
    db: SqlitePool,
    dir: StateDir,
    cas: Cas,
    sizes: PartSizes,
}

impl Blobs {
    pub(crate) fn new(db: SqlitePool, dir: StateDir, cas: Cas, sizes: PartSizes) -> Self {
        Self { db, dir, cas, sizes }
    }

    /// The length of every part but the last.
    pub(crate) fn part_size(&self) -> u64 {
        self.sizes.part
    }

    fn max_length(&self) -> u64 {
        self.sizes.part.saturating_mul(MAX_PARTS)
    }

    /// Announces a blob of this length.
    pub(crate) async fn create(&self, length: i64) -> Result<BlobRecord> {
        let length_given = u64::try_from(length).ok().filter(|it| *it <= self.max_length());
        let Some(bytes) = length_given else {
            return Err(Error::invalid(format!("a blob cannot have {length} bytes")));
        };
        let parts =
            if bytes < self.sizes.from { 0 } else { bytes.div_ceil(self.sizes.part) as i64 };
        let id = BlobId::random();
        sqlx::query("INSERT INTO blobs (blob_id, length, parts, created_at) VALUES (?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(length)
            .bind(parts)
            .bind(clock::unique_now())
            .execute(&self.db)
            .await
            .map_err(Error::database("create a blob"))?;
        self.get(&id).await
    }

    /// One blob's record.
    pub(crate) async fn get(&self, id: &BlobId) -> Result<BlobRecord> {
        sqlx::query_as("SELECT blob_id, sha256_hex, length, parts FROM blobs WHERE blob_id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.db)
            .await
            .map_err(Error::database("look up a blob"))?
            .ok_or_else(|| Error::not_found("blob", id))
    }

    /// Keeps an upload as the blob's content; its length must be the announced one.
    pub(crate) async fn complete(&self, blob: &BlobRecord, upload: Incoming) -> Result<Stored> {
        let came = upload.stored().length;
        if i64::try_from(came).ok() != Some(blob.length) {
            return Err(Error::invalid(format!(
                "blob `{}` was announced with {} bytes, but {came} came",
                blob.blob_id, blob.length
            )));
        }
        let stored = upload.keep(&self.cas).await?;
        sqlx::query("UPDATE blobs SET sha256_hex = ? WHERE blob_id = ?")
            .bind(stored.hash.to_string())
            .bind(&blob.blob_id)
            .execute(&self.db)
            .await
            .map_err(Error::database("complete a blob"))?;
        Ok(stored)
    }

    /// The length that part `number` must have, counted from 1.
    pub(crate) fn part_length(&self, blob: &BlobRecord, number: u32) -> Result<u64> {
        let length = u64::try_from(blob.length).unwrap_or(0);
        let (number, parts) = (u64::from(number), u64::try_from(blob.parts).unwrap_or(0));
        if number == 0 || number > parts {
            return Err(Error::invalid(format!("blob `{}` has no part {number}", blob.blob_id)));
        }
        let part = self.sizes.part;
        Ok(if number < parts { part } else { length - part * (parts - 1) })
    }

    /// Keeps one part of a blob under its number.
    pub(crate) async fn keep_part(
        &self,
        blob: &BlobRecord,
        number: u32,
        upload: Incoming,
    ) -> Result<Stored> {
        let stored = upload.keep(&self.cas).await?;
        let note = self.part_note(blob, number);
        let text = stored.hash.to_string();
        crate::blocking::run(move || durable::write(&note, text.as_bytes(), 0o600)).await?;
        Ok(stored)
    }

    /// Puts the parts together. Answers the content and what S3 calls its entity tag: the MD5 of
    /// the parts' MD5s, a dash, and their number.
    pub(crate) async fn join_parts(&self, blob: &BlobRecord) -> Result<(Stored, String)> {
        let parts = u32::try_from(blob.parts).unwrap_or(0);
        let (blobs, id) = (self.clone(), blob.clone());
        let (whole, sums) = crate::blocking::run(move || {
            let mut whole = blobs.cas.begin(Hashes::NameAndMd5)?;
            let mut sums = Md5::new();
            for number in 1..=parts {
                sums.update(blobs.append_part(&id, number, &mut whole)?);
            }
            Ok((whole, sums))
        })
        .await?;
        let stored = self.complete(blob, whole).await?;
        for number in 1..=parts {
            let note = self.part_note(blob, number);
            crate::blocking::run(move || durable::remove_file(&note)).await?;
        }
        Ok((stored, format!("{}-{parts}", hex::encode(sums.finalize()))))
    }

    /// Appends one part; answers its MD5. Blocks.
    fn append_part(
        &self,
        blob: &BlobRecord,
        number: u32,
        whole: &mut Incoming,
    ) -> Result<[u8; 16]> {
        let note = self.part_note(blob, number);
        let missing = |_| {
            let id = &blob.blob_id;
            Error::Precondition(format!("part {number} of blob `{id}` has not been uploaded"))
        };
        let hash = fs::read_to_string(&note).map_err(missing)?;
        let hash = Sha256Hash::from_hex(&hash)?;
        let path = self.cas.path_of(&hash);
        let mut part = self.cas.open(&hash)?;
        let (mut md5, mut chunk) = (Md5::new(), vec![0; CHUNK]);
        loop {
            let count = part.read(&mut chunk).map_err(Error::file("read", &path))?;
            if count == 0 {
                return Ok(md5.finalize().into());
            }
            md5.update(&chunk[..count]);
            whole.write(&chunk[..count], self.max_length())?;
        }
    }

    /// Remembers which content a part has, until the blob is complete.
    fn part_note(&self, blob: &BlobRecord, number: u32) -> PathBuf {
        self.dir.parts().join(format!("{}-{number}", blob.blob_id))
    }

    /// The hashes of the parts of blobs that are not complete.
    pub(crate) async fn parts_under_way(&self) -> Result<Vec<String>> {
        let directory = self.dir.parts();
        crate::blocking::run(move || {
            let entries = fs::read_dir(&directory).map_err(Error::file("read", &directory))?;
            let mut hashes = Vec::new();
            for entry in entries {
                let path = entry.map_err(Error::file("read", &directory))?.path();
                // One that is gone meanwhile belongs to a blob that is complete.
                hashes.extend(fs::read_to_string(&path).ok());
            }
            Ok(hashes)
        })
        .await
    }
}
