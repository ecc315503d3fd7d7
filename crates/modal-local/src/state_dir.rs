//! Where the server keeps everything: one directory that only its owner can enter.

use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::Result;

/// A server's state directory. One directory has at most one server at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at this path, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How to reach the running server, readable by its owner only: it holds the token.
    pub fn server_json(&self) -> PathBuf {
        self.root.join("server.json")
    }

    /// Held by the running server for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.root.join("server.lock")
    }

    /// What a background server prints.
    pub fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// What the log held before it became too long.
    pub(crate) fn old_log(&self) -> PathBuf {
        self.root.join("server.log.old")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("records.sqlite")
    }

    pub(crate) fn log_database(&self) -> PathBuf {
        self.root.join("logs.sqlite")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys.json")
    }

    /// The code by which whoever can read this directory gets the token through a browser.
    pub(crate) fn login_code(&self) -> PathBuf {
        self.root.join("login-code")
    }

    /// What tunnels are encrypted with; laid out by `certificates`.
    pub(crate) fn identity_key(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// Certificates that this machine trusts, and the authority of this server's tunnels.
    pub fn tls_roots(&self) -> PathBuf {
        self.tls().join("roots.pem")
    }

    /// Files that every container is shown; laid out by `sandbox`.
    pub(crate) fn furnishing(&self) -> PathBuf {
        self.root.join("furnishing")
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    pub(crate) fn cas(&self) -> PathBuf {
        self.root.join("cas")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// What is to be deleted: moved here in one step, then removed at leisure.
    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Which parts of blobs have come, until the blobs are complete.
    pub(crate) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Files under way. Emptied when a server starts.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Layers and build records; laid out by `image`.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Directories of live sandboxes; laid out by `sandbox`.
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// The container runtime's own.
    pub fn runtime(&self) -> PathBuf {
        self.root.join("runtime")
    }

    /// Makes all of these directories, private to their owner.
    pub(crate) fn create(&self) -> Result<()> {
        durable::create_dir(&self.root, 0o700)?;
        let parts = [
            self.secrets(),
            self.cas(),
            self.volumes(),
            self.mounts(),
            self.trash(),
            self.tmp(),
            self.parts(),
            self.images(),
            self.sandboxes(),
            self.runtime(),
        ];
        parts.iter().try_for_each(|part| durable::create_dir(part, 0o700))?;
        [self.sandboxes(), self.volumes()].iter().for_each(|part| durable::spread(part));
        Ok(())
    }
}
