//! How much of the disk is left free.

use std::fmt;
use std::str::FromStr;

/// Without a choice so much of the disk is left free: one part in so many.
const SHARE: u64 = 20;
/// But no more than this.
const MOST: u64 = 2 << 30;

/// How much of the state directory's file system the server leaves free.
///
/// It parses from a number of bytes, or one with `KiB`, `MiB`, `GiB` or `TiB`. `0` turns the check
/// off: then only the kernel says that the disk is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskReserve(Option<u64>);

/// Not an amount of bytes.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no amount of bytes: write one like `512MiB`, `2GiB` or `0`")]
pub struct InvalidAmount(String);

impl DiskReserve {
    /// In bytes, of a file system of this size: a twentieth of it and at most 2 GiB unless chosen.
    pub fn bytes(self, size: u64) -> u64 {
        self.0.unwrap_or_else(|| (size / SHARE).min(MOST))
    }
}

impl FromStr for DiskReserve {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        bytes_from(text).map(|bytes| Self(Some(bytes)))
    }
}

/// Bytes as people write them.
pub(super) fn bytes_from(text: &str) -> Result<u64, InvalidAmount> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.iter().find_map(|(name, shift)| Some((text.strip_suffix(name)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let bytes: Option<u64> = number.trim_end().parse().ok();
    let bytes = bytes.and_then(|bytes| bytes.checked_mul(1 << shift));
    bytes.ok_or_else(|| InvalidAmount(text.to_owned()))
}

impl fmt::Display for DiskReserve {
    /// In the form that it parses from; `default` stands for no choice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        let parse = |text: &str| text.parse::<DiskReserve>().map(|it| it.bytes(0)).ok();
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("4096"), Some(4096));
        assert_eq!(parse("3 MiB"), Some(3 << 20));
        assert_eq!(parse("2GiB"), Some(2 << 30));
        for bad in ["", "MiB", "-1", "1.5GiB", "99999999999TiB", "2GB"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_small_disk_keeps_little() {
        let reserve = DiskReserve::default();
        assert_eq!([reserve.bytes(64 << 20), reserve.bytes(1 << 40)], [(64 << 20) / 20, 2 << 30]);
    }
}
