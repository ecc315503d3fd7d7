//! Files that are there completely or not at all, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Replaces the file at `path` by one with these contents and this mode.
pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", crate::ids::random_suffix()));
    let written = write_new(&temporary, contents, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::file("write", path)))
        .and_then(|()| sync_parent(path));
    if written.is_err() {
        // The temporary file may not exist; what matters is the error that came first.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(Error::file("create", path))?;
    file.write_all(contents).map_err(Error::file("write", path))?;
    file.sync_all().map_err(Error::file("sync", path))
}

/// Makes a rename or removal in the directory of `path` last.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let directory = File::open(parent).map_err(Error::file("open", parent))?;
    directory.sync_all().map_err(Error::file("sync", parent))
}

/// Makes the directory and its parents, and gives it this mode even if it existed.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::file("create", path))?;
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(Error::file("set the mode of", path))
}

/// Tells the file system, where it can be told, that what lies in this directory has nothing to do with each other.
///
/// ext4 then gives each directory made in it a place of its own on the disk (chattr(1), attribute `T`). Otherwise all
/// of them share one, and as it doesn't use again what was deleted in the last minutes, each file made there passes over
/// all that: after some thousand sandboxes that is most of what one costs.
pub(crate) fn spread(directory: &Path) {
    let told = File::open(directory).and_then(|it| {
        let flags = rustix::fs::ioctl_getflags(&it)?;
        Ok(rustix::fs::ioctl_setflags(&it, flags | rustix::fs::IFlags::TOPDIR)?)
    });
    if let Err(error) = told {
        tracing::debug!(%error, dir = %directory.display(), "the file system spreads no directories");
    }
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
