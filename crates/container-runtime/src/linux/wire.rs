//! The bytes between server, spawner and init: length-prefixed fields in a fixed order.
//!
//! Both ends are the same binary, so there is no version; a malformed message is an error, never a panic.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Appends fields.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bool(self, value: bool) -> Self {
        self.u64(value.into())
    }

    pub(crate) fn optional(self, value: Option<u64>) -> Self {
        let this = self.bool(value.is_some());
        this.u64(value.unwrap_or_default())
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let mut this = self.u64(value.len() as u64);
        this.0.extend_from_slice(value);
        this
    }

    pub(crate) fn path(self, value: &Path) -> Self {
        self.bytes(value.as_os_str().as_bytes())
    }

    pub(crate) fn list<T>(
        self,
        items: impl ExactSizeIterator<Item = T>,
        write: impl Fn(Self, T) -> Self,
    ) -> Self {
        let this = self.u64(items.len() as u64);
        items.fold(this, write)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off in the order they were written.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The tag, and a reader of the rest.
    pub(crate) fn new(message: &'a [u8]) -> io::Result<(u8, Self)> {
        let (tag, rest) = message.split_first().ok_or_else(malformed)?;
        Ok((*tag, Self(rest)))
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*head))
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        i32::try_from(self.u64()?.cast_signed()).map_err(|_| malformed())
    }

    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        u32::try_from(self.u64()?).map_err(|_| malformed())
    }

    pub(crate) fn bool(&mut self) -> io::Result<bool> {
        Ok(self.u64()? != 0)
    }

    pub(crate) fn optional(&mut self) -> io::Result<Option<u64>> {
        let present = self.bool()?;
        let value = self.u64()?;
        Ok(present.then_some(value))
    }

    pub(crate) fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.u64()?).map_err(|_| malformed())?;
        if length > self.0.len() {
            return Err(malformed());
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(head.to_vec())
    }

    pub(crate) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| malformed())
    }

    pub(crate) fn os(&mut self) -> io::Result<OsString> {
        Ok(OsString::from_vec(self.bytes()?))
    }

    pub(crate) fn path(&mut self) -> io::Result<PathBuf> {
        Ok(self.os()?.into())
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let count = self.u64()?;
        (0..count).map(|_| read(self)).collect()
    }
}

/// The answer to bytes that no peer of ours writes.
pub(crate) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message of the runtime's own protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let bytes = Writer::new(7)
            .u64(3)
            .bool(true)
            .optional(None)
            .optional(Some(9))
            .bytes(b"\xff\0")
            .list(["a", "b"].iter(), |w, s| w.bytes(s.as_bytes()))
            .finish();
        let (tag, mut reader) = Reader::new(&bytes).unwrap();
        assert_eq!((tag, reader.u64().unwrap(), reader.bool().unwrap()), (7, 3, true));
        assert_eq!((reader.optional().unwrap(), reader.optional().unwrap()), (None, Some(9)));
        assert_eq!(reader.bytes().unwrap(), b"\xff\0");
        assert_eq!(reader.list(Reader::text).unwrap(), ["a", "b"]);
        assert!(reader.u64().is_err());
    }

    #[test]
    fn truncated_and_lying_messages_are_errors() {
        let bytes = Writer::new(1).bytes(b"hello").finish();
        for end in 1..bytes.len() {
            let (_, mut reader) = Reader::new(&bytes[..end]).unwrap();
            assert!(reader.bytes().is_err());
        }
        let (_, mut reader) = Reader::new(&[1, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap();
        assert!(reader.bytes().is_err());
        assert!(Reader::new(&[]).is_err());
    }
}
