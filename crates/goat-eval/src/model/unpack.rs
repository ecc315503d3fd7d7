//! Unpacks bodies that a server has packed. They are asked for as they are (`Accept-Encoding: identity`), but some
//! proxies pack whatever passes.

use std::io::{self, Write};

use flate2::write::{GzDecoder, ZlibDecoder};

use super::assemble::AssembleError;

/// Packed bytes that are taken at once: what they unpack to, at most a thousand times as much, is in memory.
const STEP: usize = 4 << 10;

/// A body that is unpacked while it arrives.
#[derive(Debug)]
pub(crate) enum Unpacker {
    Plain,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
}

impl Unpacker {
    /// For a body with this `Content-Encoding`.
    pub(crate) fn of(encoding: &str) -> Result<Self, AssembleError> {
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Unpacker::Plain),
            "gzip" | "x-gzip" => Ok(Unpacker::Gzip(Box::new(GzDecoder::new(Vec::new())))),
            "deflate" => Ok(Unpacker::Zlib(Box::new(ZlibDecoder::new(Vec::new())))),
            other => Err(AssembleError::Packed(other.to_owned())),
        }
    }

    /// Gives the plain bytes of the next packed ones, piece by piece.
    pub(crate) fn unpack(
        &mut self,
        packed: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), AssembleError>,
    ) -> Result<(), AssembleError> {
        if let Unpacker::Plain = self {
            return take(packed);
        }
        for step in packed.chunks(STEP) {
            let plain = self.step(step).map_err(AssembleError::Unpackable)?;
            take(&plain)?;
        }
        Ok(())
    }

    fn step(&mut self, packed: &[u8]) -> io::Result<Vec<u8>> {
        fn through(decoder: &mut impl Write, packed: &[u8]) -> io::Result<()> {
            decoder.write_all(packed)?;
            decoder.flush()
        }
        match self {
            Unpacker::Plain => Ok(packed.to_owned()),
            Unpacker::Gzip(decoder) => {
                through(decoder, packed)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Unpacker::Zlib(decoder) => {
                through(decoder, packed)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn unpacked(encoding: &str, packed: &[u8], size: usize) -> Result<Vec<u8>, AssembleError> {
        let mut unpacker = Unpacker::of(encoding)?;
        let mut plain = Vec::new();
        for piece in packed.chunks(size) {
            unpacker.unpack(piece, |bytes| {
                plain.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok(plain)
    }

    #[test]
    fn packed_bodies_are_read_in_whatever_pieces_they_come() {
        let text = "data: {\"ä\": 1}\n\n".repeat(2_000);
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(text.as_bytes()).unwrap();
        let packed = packer.finish().unwrap();
        for size in [1, 7, packed.len()] {
            assert_eq!(unpacked("GZIP", &packed, size).unwrap(), text.as_bytes(), "{size}");
        }
        assert_eq!(unpacked("", b"as it is", 3).unwrap(), b"as it is");
    }

    #[test]
    fn what_was_not_asked_for_or_is_broken_is_said() {
        assert!(
            matches!(unpacked("br", b"x", 1), Err(AssembleError::Packed(name)) if name == "br")
        );
        assert!(matches!(
            unpacked("gzip", b"no gzip at all", 14),
            Err(AssembleError::Unpackable(_))
        ));
    }
}
