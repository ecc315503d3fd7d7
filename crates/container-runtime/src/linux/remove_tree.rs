//! Deletes directories that untrusted programs filled.
//!
//! Works by descriptors and never follows a link. A tree nested 100,000 deep would overflow a recursion's stack and
//! run out of descriptors, so subdirectories are moved up beside the first one and deleted from there.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Deletes what is in `directory`, and then it.
pub(crate) fn remove_tree(directory: &Path) -> io::Result<()> {
    let top = openat(CWD, directory, flags(), Mode::empty())?;
    let mut pending = Pending::new()?;
    pending.empty(&top, top.as_fd())?;
    while let Some(name) = pending.next() {
        // An ordinary user may have been left a directory that its owner cannot read.
        rustix::fs::chmodat(&top, &name, Mode::RWXU, AtFlags::empty())?;
        let inner = openat(&top, &name, flags(), Mode::empty())?;
        pending.empty(&top, inner.as_fd())?;
        unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
    }
    std::fs::remove_dir(directory)
}

fn flags() -> OFlags {
    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY
}

/// Directories moved up to the top, by number.
struct Pending {
    /// Random, so that no name in the tree is one of these.
    prefix: String,
    made: u64,
    done: u64,
}

impl Pending {
    fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let prefix = format!(".removing-{:016x}", u64::from_le_bytes(random));
        Ok(Self { prefix, made: 0, done: 0 })
    }

    fn next(&mut self) -> Option<String> {
        (self.done < self.made).then(|| {
            self.done += 1;
            format!("{}-{}", self.prefix, self.done)
        })
    }

    /// Deletes the files of a directory and moves its subdirectories up.
    fn empty(&mut self, top: &OwnedFd, directory: BorrowedFd<'_>) -> io::Result<()> {
        let mut entries: Vec<(CString, FileType)> = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                entries.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        entries.into_iter().try_for_each(|(entry, kind)| self.remove(top, directory, &entry, kind))
    }

    fn remove(
        &mut self,
        top: &OwnedFd,
        directory: BorrowedFd<'_>,
        entry: &CStr,
        kind: FileType,
    ) -> io::Result<()> {
        if kind != FileType::Directory {
            match unlinkat(directory, entry, AtFlags::empty()) {
                // The file system did not say what it is.
                Err(Errno::ISDIR | Errno::PERM) => {}
                other => return Ok(other?),
            }
        }
        match unlinkat(directory, entry, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return Ok(other?),
        }
        self.made += 1;
        Ok(renameat(directory, entry, top, format!("{}-{}", self.prefix, self.made))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_removed_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap().keep();
        symlink(outside.path(), inside.join("link")).unwrap();
        fs::create_dir_all(inside.join("a/b")).unwrap();
        symlink("/", inside.join("a/b/root")).unwrap();
        remove_tree(&inside).unwrap();
        assert!(!inside.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn very_deep_trees_go_without_recursion() {
        let root = tempfile::tempdir().unwrap().keep();
        let mut at = rustix::fs::open(&root, flags(), Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "d", flags(), Mode::empty()).unwrap();
        }
        drop(at);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }
}
