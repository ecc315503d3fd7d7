//! A block as the server sends it: compared with its digest, and without the zeros at its end.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A body that is longer than this is hashed where blocking is allowed.
const LONG: u64 = 64 << 10;

/// The SHA-256 that a `Repr-Digest` names.
pub(super) type BlockDigest = [u8; 32];

/// A part of a file that came, and is what the server says it is.
#[derive(Debug)]
pub(super) struct Received {
    /// How many of the file's bytes it stands for.
    length: u64,
    /// Those before the zeros at its end, as they came.
    sent: Vec<Bytes>,
}

impl Received {
    /// Takes what was sent for `length` bytes of a file.
    ///
    /// # Errors
    /// More was sent, or what was sent does not have the digest: what is wrong, in words.
    pub(super) async fn check(
        sent: Vec<Bytes>,
        length: u64,
        digest: Option<BlockDigest>,
    ) -> Result<Self, String> {
        let have = total(&sent);
        if have > length {
            return Err(format!("a block is {have} bytes long instead of {length} at most"));
        }
        let received = Self { length, sent };
        let Some(digest) = digest else { return Ok(received) };
        let compare = move || if received.has(&digest) { Some(received) } else { None };
        let compared = if have > LONG {
            tokio::task::spawn_blocking(compare).await.unwrap_or(None)
        } else {
            compare()
        };
        compared.ok_or_else(|| {
            "a block does not have the digest that the server gives for it".to_owned()
        })
    }

    fn has(&self, digest: &BlockDigest) -> bool {
        let mut sha256 = Sha256::new();
        self.sent.iter().for_each(|chunk| sha256.update(chunk));
        *digest == <[u8; 32]>::from(sha256.finalize())
    }

    /// All its bytes.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        let zeros = self.length - total(&self.sent);
        let zeros = (zeros > 0).then(|| Bytes::from(vec![0; zeros as usize]));
        self.sent.into_iter().chain(zeros)
    }
}

fn total(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The SHA-256 of a `Repr-Digest` header, where it has one (RFC 9530: `sha-256=:base64:`, among others).
pub(super) fn digest_of(header: &str) -> Option<BlockDigest> {
    let item = header.split(',').map(str::trim).find_map(|item| item.strip_prefix("sha-256="))?;
    let text = item.strip_prefix(':')?.strip_suffix(':')?;
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(parts: &[&'static [u8]]) -> Vec<Bytes> {
        parts.iter().map(|part| Bytes::from_static(part)).collect()
    }

    #[tokio::test]
    async fn a_short_block_is_padded_and_a_long_one_refused() {
        let received = Received::check(pieces(&[b"a", b"b"]), 4, None).await.unwrap();
        assert_eq!(received.into_chunks().collect::<Vec<_>>().concat(), b"ab\0\0");
        Received::check(pieces(&[b"ab", b"c"]), 2, None).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_body_is_compared_with_its_digest_however_long_it_is() {
        for length in [1, 3 * LONG as usize] {
            let body = vec![7; length];
            let header =
                format!("sha-512=:AA==:, sha-256=:{}:", BASE64.encode(Sha256::digest(&body)));
            let digest = digest_of(&header);
            assert!(digest.is_some());
            let parts = || body.chunks(LONG as usize).map(Bytes::copy_from_slice).collect();
            Received::check(parts(), length as u64, digest).await.unwrap();
            let other = Some([0; 32]);
            Received::check(parts(), length as u64, other).await.unwrap_err();
        }
    }

    #[test]
    fn what_is_no_digest_of_ours_is_none() {
        for header in ["", "sha-512=:AA==:", "sha-256=AA==", "sha-256=:AA==:", "sha-256=:?:"] {
            assert_eq!(digest_of(header), None, "{header}");
        }
    }
}
