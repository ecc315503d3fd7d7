//! `MakeDirectory` and `Remove`.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Failure, Kind};

/// Levels of a tree that are open at a time. What lies deeper is moved up first, so that a tree of any depth
/// costs neither stack nor descriptors.
const LEVELS: usize = 64;

pub(super) fn make(path: &Path, parents: bool) -> Result<(), Failure> {
    let made = if parents { fs::create_dir_all(path) } else { fs::create_dir(path) };
    made.map_err(|error| Failure::from(error).renamed(Kind::AlreadyExists, Kind::PathAlreadyExists))
}

/// Links are removed, not followed.
pub(super) fn remove(path: &Path, recursive: bool) -> Result<(), Failure> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(fs::remove_file(path)?);
    }
    if recursive {
        let tree = open_directory(rustix::fs::CWD, path)?;
        let mut hoisted = Hoisted { top: tree.as_fd(), count: 0 };
        while empty(tree.as_fd(), 0, &mut hoisted)? {}
    }
    Ok(fs::remove_dir(path)?)
}

/// Where directories that lie too deep are moved to.
struct Hoisted<'t> {
    top: BorrowedFd<'t>,
    count: u64,
}

impl Hoisted<'_> {
    fn take(&mut self, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        loop {
            self.count += 1;
            let up = format!(".removing-{}-{}", std::process::id(), self.count);
            match rustix::fs::renameat(parent, name, self.top, up) {
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                settled => return settled,
            }
        }
    }
}

/// Removes everything in `directory`; whether something was moved to the top instead.
fn empty(
    directory: BorrowedFd<'_>,
    level: usize,
    hoisted: &mut Hoisted<'_>,
) -> Result<bool, Errno> {
    let mut moved = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if [c".", c".."].contains(&name.as_c_str()) {
            continue;
        }
        if is_directory(directory, &name, entry.file_type())? {
            if level == LEVELS {
                hoisted.take(directory, &name)?;
                moved = true;
                continue;
            }
            let below = open_directory(directory, name.as_c_str())?;
            moved |= empty(below.as_fd(), level + 1, hoisted)?;
            ignore_missing(rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR))?;
        } else {
            ignore_missing(rustix::fs::unlinkat(directory, &name, AtFlags::empty()))?;
        }
    }
    Ok(moved)
}

fn is_directory(parent: BorrowedFd<'_>, name: &CString, known: FileType) -> Result<bool, Errno> {
    if known != FileType::Unknown {
        return Ok(known == FileType::Directory);
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_directory(parent: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty())
}

/// Somebody else may be removing the same tree.
fn ignore_missing(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        settled => settled,
    }
}
