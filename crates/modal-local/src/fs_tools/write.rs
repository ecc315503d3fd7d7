//! `WriteFile`.
//!
//! A file that is new, or has no other name, is written beside its place and renamed into it: a reader sees the
//! old contents or all of the new ones, and a stream that breaks off changes nothing. A file with several names,
//! or in a directory where nothing can be made, is written where it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::failure::{Failure, Kind};
use super::read::require_regular;

/// Names tried for the file beside the place.
const ATTEMPTS: usize = 16;

pub(super) fn write_file(path: &Path, mut stdin: File) -> Result<(), Failure> {
    let target = target(path)?;
    let existing = match fs::metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(metadata) = &existing {
        require_regular(metadata)?;
    }
    let alone = existing.as_ref().is_none_or(|metadata| metadata.nlink() == 1);
    match alone.then(|| Draft::beside(&target)).flatten() {
        Some(mut draft) => {
            io::copy(&mut stdin, &mut draft.file)?;
            draft.become_the_file(&target, existing.as_ref())
        }
        None => {
            let mut file = open_in_place(&target)?;
            io::copy(&mut stdin, &mut file)?;
            Ok(())
        }
    }
}

/// Where the bytes go: links are followed, the missing parents of what they lead to are made.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    if let Ok(found) = fs::canonicalize(path) {
        return Ok(found);
    }
    let Some(name) = path.file_name() else {
        return Err(Failure::new(Kind::IsDirectory, "Is a directory", "the path names no file"));
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    Ok(parent.join(name))
}

fn open_in_place(target: &Path) -> Result<File, Failure> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .open(target)?;
    require_regular(&file.metadata()?)?;
    file.set_len(0)?;
    Ok(file)
}

/// A file that is not in its place yet; removed again if it never gets there.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    /// None where nothing can be made in the directory.
    fn beside(target: &Path) -> Option<Self> {
        let (directory, name) = (target.parent()?, target.file_name()?);
        // A link that leads nowhere is written through.
        if fs::symlink_metadata(target).is_ok_and(|metadata| metadata.is_symlink()) {
            return None;
        }
        for attempt in 0..ATTEMPTS {
            let mut draft = std::ffi::OsString::from(format!(".{}-{attempt}.", std::process::id()));
            draft.push(name);
            let path = directory.join(draft);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Some(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Takes the place of `target`, with the mode and owner of the file that was there.
    fn become_the_file(
        mut self,
        target: &Path,
        existing: Option<&fs::Metadata>,
    ) -> Result<(), Failure> {
        if let Some(metadata) = existing {
            std::os::unix::fs::fchown(&self.file, Some(metadata.uid()), Some(metadata.gid()))?;
            self.file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
        }
        match fs::rename(&self.path, target) {
            Ok(()) => {
                self.path = PathBuf::new();
                Ok(())
            }
            // A file that is mounted over the place, such as /etc/hosts, cannot be renamed away.
            Err(_) => {
                io::copy(&mut File::open(&self.path)?, &mut open_in_place(target)?)?;
                Ok(())
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // It may be gone with its directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}
