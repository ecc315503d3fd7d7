//! Files that are added to an image.

use std::fs::Permissions;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A file of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// Its path below [`FILES`](super::FILES), with slashes.
    pub path: String,
    /// What is in it.
    pub contents: Contents,
    /// Whether it is a program.
    pub is_program: bool,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// This text.
    Text(String),
    /// What is in this file of the machine that deploys.
    Local(PathBuf),
}

impl ServiceFile {
    /// A program.
    pub fn program(path: impl Into<String>, contents: Contents) -> Self {
        Self { path: path.into(), contents, is_program: true }
    }

    /// A text.
    pub fn text(path: impl Into<String>, text: impl Into<String>) -> Self {
        let contents = Contents::Text(text.into());
        Self { path: path.into(), contents, is_program: false }
    }

    /// A copy of a file.
    pub fn copy(path: impl Into<String>, of: impl Into<PathBuf>) -> Self {
        let contents = Contents::Local(of.into());
        Self { path: path.into(), contents, is_program: false }
    }

    /// Writes it below a directory. A file that has these contents already keeps its time.
    ///
    /// # Errors
    ///
    /// [`Error::Stage`] with the path that could not be read or written.
    pub fn write_below(&self, directory: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.join(&self.path);
        let failed = |source| Error::Stage { path: path.clone(), source };
        let bytes = self.contents.read()?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        if std::fs::read(&path).ok().as_deref() != Some(&*bytes) {
            std::fs::write(&path, bytes).map_err(failed)?;
        }
        let mode = if self.is_program { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)
    }
}

impl Contents {
    /// The bytes.
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Local(path) => {
                let failed = |source| Error::Stage { path: path.clone(), source };
                std::fs::read(path).map_err(failed)
            }
        }
    }

    /// SHA-256 of the bytes.
    pub(super) fn digest(&self) -> Result<[u8; 32]> {
        Ok(Sha256::digest(self.read()?).into())
    }
}
