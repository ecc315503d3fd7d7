//! Hashes of parts: length-prefixed, so that no two different lists of parts look the same.

use sha2::{Digest as _, Sha256};

/// Collects parts into one hash.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Hashes of different kinds of thing never meet.
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.part(kind);
        hasher
    }

    pub(crate) fn part(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// A list: its length is part of it.
    pub(crate) fn parts<P: AsRef<[u8]>>(
        &mut self,
        parts: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let parts = parts.into_iter();
        self.part((parts.len() as u64).to_le_bytes());
        for part in parts {
            self.part(part);
        }
        self
    }

    pub(crate) fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    pub(crate) fn finish_hex(&self) -> String {
        hex::encode(self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_part_ends_is_part_of_the_hash() {
        let hash = |parts: &[&str]| Hasher::new("test").parts(parts).finish_hex();
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
        assert_eq!(hash(&["a"]), hash(&["a"]));
    }
}
