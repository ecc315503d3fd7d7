//! HMAC-SHA256 (RFC 2104), which signs JWTs and URLs.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const BLOCK: usize = 64;

/// A key of at most one hash block; longer ones are hashed, as the RFC says.
pub(crate) struct Key {
    block: Zeroizing<[u8; BLOCK]>,
}

impl Key {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK]);
        if secret.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        Self { block }
    }

    /// The code of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 32] {
        let inner = Sha256::new_with_prefix(self.padded(0x36)).chain_update(message).finalize();
        Sha256::new_with_prefix(self.padded(0x5c)).chain_update(inner).finalize().into()
    }

    /// Whether `code` belongs to `message`, in a time that does not depend on where it is wrong.
    pub(crate) fn verify(&self, message: &[u8], code: &[u8]) -> bool {
        self.sign(message).ct_eq(code).into()
    }

    fn padded(&self, pad: u8) -> [u8; BLOCK] {
        self.block.map(|byte| byte ^ pad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, expected) in cases {
            assert_eq!(hex::encode(Key::new(key).sign(message)), expected);
            assert!(Key::new(key).verify(message, &hex::decode(expected).unwrap()));
            assert!(!Key::new(key).verify(message, b""));
        }
    }
}
