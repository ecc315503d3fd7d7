//! What generators yield.

use modal_proto::client::DataChunk;
use prost::Message as _;

use super::Calls;
use crate::error::{Error, Result};
use crate::function::records::decode;
use crate::ids::CallId;

/// Chunks in one read, at most.
const MAX_CHUNKS: i64 = 64;

impl Calls {
    /// Keeps what a generator yielded. A chunk that came before stays as it was.
    pub(crate) async fn add_chunks(&self, call: &CallId, chunks: Vec<DataChunk>) -> Result<()> {
        let insert = async {
            let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
            for chunk in &chunks {
                sqlx::query("INSERT OR IGNORE INTO function_chunks VALUES (?, ?, ?)")
                    .bind(call.as_str())
                    .bind(i64::try_from(chunk.index).unwrap_or(i64::MAX))
                    .bind(chunk.encode_to_vec())
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        insert.await.map_err(Error::database("record what a generator yielded"))?;
        self.notify(call);
        Ok(())
    }

    /// What a generator yielded after an index.
    pub(crate) async fn chunks(&self, call: &CallId, after: u64) -> Result<Vec<DataChunk>> {
        let chunks: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT chunk FROM function_chunks WHERE call_id = ? AND idx > ? ORDER BY idx LIMIT ?",
        )
        .bind(call.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(MAX_CHUNKS)
        .fetch_all(&self.db)
        .await
        .map_err(Error::database("read what a generator yielded"))?;
        chunks.iter().map(|chunk| decode(chunk)).collect()
    }
}
