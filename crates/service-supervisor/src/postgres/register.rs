//! The register of a lease as a directory: for containers of one machine.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use futures::future::BoxFuture;

use super::lease::{Register, RegisterError};

/// A file for each key. All who use it must see the same file system at once, as a volume of Modal is not.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Writes a value under a name of its own first, so that the key never has half of one.
    fn replace(&self, key: &str, value: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(value.as_bytes())?;
        file.persist(self.0.join(key))?;
        Ok(())
    }
}

impl Register for Directory {
    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
    ) -> BoxFuture<'a, Result<bool, RegisterError>> {
        Box::pin(async move {
            // Not by a link, which not every file system has. Who looks in between sees that it is taken.
            match OpenOptions::new().write(true).create_new(true).open(self.0.join(key)) {
                Ok(mut file) => {
                    file.write_all(value.as_bytes())?;
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), RegisterError>> {
        Box::pin(async move { self.replace(key, value).map_err(Into::into) })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, RegisterError>> {
        Box::pin(async move {
            match fs::read_to_string(self.0.join(key)) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }
}
