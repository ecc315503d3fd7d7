//! Cuts a key out of a stream as it passes.

use std::future::ready;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::secret::Secret;

/// The stream without the key, wherever its pieces end. Only bytes that may be a key's beginning
/// wait for the next piece.
pub(super) fn without_key<E>(
    pieces: impl Stream<Item = Result<Bytes, E>>,
    key: Option<Secret>,
) -> impl Stream<Item = Result<Bytes, E>> {
    let cutter = Cutter { key, held: Vec::new() };
    let end = stream::once(ready(None));
    let cut = pieces.map(Some).chain(end).scan(cutter, |cutter, piece| {
        ready(Some(match piece {
            Some(Ok(piece)) => Ok(cutter.push(piece)),
            Some(Err(error)) => Err(error),
            None => Ok(std::mem::take(&mut cutter.held).into()),
        }))
    });
    cut.try_filter(|piece| ready(!piece.is_empty()))
}

struct Cutter {
    key: Option<Secret>,
    held: Vec<u8>,
}

impl Cutter {
    fn push(&mut self, piece: Bytes) -> Bytes {
        let Some(key) = &self.key else { return piece };
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&piece);
        let mut bytes = key.redact_bytes(bytes);
        self.held = bytes.split_off(bytes.len() - beginning_at_end(&bytes, key.expose()));
        bytes.into()
    }
}

/// How many of the last bytes may be the beginning of the key.
fn beginning_at_end(bytes: &[u8], key: &str) -> usize {
    let longest = key.len().saturating_sub(1).min(bytes.len());
    let fits = |length: &usize| bytes.ends_with(&key.as_bytes()[..*length]);
    (1..=longest).rev().find(fits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789";

    async fn cut(pieces: &[&'static str], key: Option<&str>) -> Vec<String> {
        let pieces: Vec<Result<Bytes, ()>> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let passed = without_key(stream::iter(pieces), key.map(Secret::new));
        let passed: Vec<Bytes> = passed.try_collect().await.unwrap();
        passed.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[tokio::test]
    async fn a_key_in_one_piece_or_in_several_does_not_pass() {
        assert_eq!(cut(&["a sk-0123456789 b"], Some(KEY)).await, ["a **** b"]);
        assert_eq!(cut(&["a sk-01", "2345", "6789 b"], Some(KEY)).await, ["a ", "**** b"]);
        assert_eq!(cut(&["sk-", "sk-0123456789"], Some(KEY)).await, ["sk-****"]);
    }

    #[tokio::test]
    async fn everything_else_passes_whole_and_at_once() {
        assert_eq!(cut(&["data: s\n\n", "x"], Some(KEY)).await, ["data: s\n\n", "x"]);
        assert_eq!(cut(&["ends with sk-0"], Some(KEY)).await, ["ends with ", "sk-0"]);
        assert_eq!(cut(&["sk-0123456789"], None).await, ["sk-0123456789"]);
    }
}
