//! Copying a directory that a program may be changing at this moment.
//!
//! Every directory is opened from the root by a path in which the kernel follows no link, and every
//! file from its directory: a link that takes a directory's place can lead to an error, never out.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};

use crate::error::{Error, Result};

/// Attributes that a layer keeps besides those of users: what overlayfs says of a directory.
const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The same where overlayfs is mounted by an ordinary user.
const USER_OPAQUE: &CStr = c"user.overlay.opaque";
/// Longest value of an attribute that is copied; the kernel's own limit.
const MAX_ATTRIBUTE: usize = 64 << 10;
/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// Copies the directory `from`, whatever lies in it but sockets and devices, to the new directory `to`.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let failed = || Error::file("copy", from);
    let source = open_root(from).map_err(failed())?;
    std::fs::create_dir(to).map_err(Error::file("create", to))?;
    let target = open_root(to).map_err(Error::file("open", to))?;
    let mut copy = Copy { source, target, links: HashMap::new() };
    copy.run().map_err(failed())
}

struct Copy {
    source: OwnedFd,
    target: OwnedFd,
    /// Files with several names, and the first name in the copy.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn run(&mut self) -> io::Result<()> {
        let mut pending = vec![PathBuf::from(".")];
        // Times and modes of directories come last: making what is in them would change them.
        let mut done = Vec::new();
        while let Some(path) = pending.pop() {
            let Some((from, to)) = self.open_both(&path)? else { continue };
            pending.extend(self.entries(&path, &from, &to)?);
            done.push(path);
        }
        for path in done.iter().rev() {
            if let Some((from, to)) = self.open_both(path)? {
                copy_attributes(from.as_fd(), to.as_fd(), true)?;
                copy_metadata(&rustix::fs::fstat(&from)?, to.as_fd())?;
            }
        }
        Ok(())
    }

    /// A directory and its copy; `None` if it is gone by now.
    fn open_both(&self, path: &Path) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        match open_directory(&self.source, path) {
            Ok(from) => Ok(Some((from, open_directory(&self.target, path)?))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies what lies in a directory; answers the directories in it, which exist in the copy.
    fn entries(&mut self, path: &Path, from: &OwnedFd, to: &OwnedFd) -> io::Result<Vec<PathBuf>> {
        let mut directories = Vec::new();
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let inner = path.join(OsStr::from_bytes(name.to_bytes()));
            match self.entry(from, to, name, &inner) {
                Ok(true) => directories.push(inner),
                Ok(false) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(directories)
    }

    /// Copies one entry; whether it is a directory, still to be filled.
    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &Path,
    ) -> io::Result<bool> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                return Ok(true);
            }
            FileType::RegularFile => self.file(from, to, name, path)?,
            FileType::Symlink => {
                let target = match rustix::fs::readlinkat(from, name, Vec::new()) {
                    // No link any more.
                    Err(rustix::io::Errno::INVAL) => return Ok(false),
                    target => target?,
                };
                rustix::fs::symlinkat(target.as_c_str(), to, name)?;
                own(&stat, to.as_fd(), name)?;
            }
            // What overlayfs takes for a deleted name; no other device can be made inside.
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                rustix::fs::mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
                own(&stat, to.as_fd(), name)?;
            }
            _ => {}
        }
        Ok(false)
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(from, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&key) {
                rustix::fs::linkat(&self.target, first, to, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert(key, path.to_owned());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        copy_contents(&File::from(file.try_clone()?), &File::from(copy.try_clone()?), &stat)?;
        copy_attributes(file.as_fd(), copy.as_fd(), false)?;
        copy_metadata(&stat, copy.as_fd())
    }
}

/// Copies what is written, and leaves holes as holes: a file may be larger than the disk.
fn copy_contents(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let size = stat.st_size.unsigned_abs();
    to.set_len(size)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(size);
        at = start;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let read = from.read_at(&mut buffer[..room], at)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all_at(&buffer[..read], at)?;
            at += read as u64;
        }
    }
    Ok(())
}

fn copy_metadata(stat: &Stat, to: BorrowedFd<'_>) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(to, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |tv_sec, tv_nsec: u64| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

fn own(stat: &Stat, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Attributes of users, and the mark of a directory that hides what is below. Other marks of
/// overlayfs are never written here, so one that is there is a program's and is left out.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, is_directory: bool) -> io::Result<()> {
    let mut names = vec![0_u8; MAX_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let own_mark = if rustix::process::geteuid().is_root() { OPAQUE } else { USER_OPAQUE };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let is_mark = name.to_bytes().windows(9).any(|part| part == b".overlay.");
        let is_users = name.to_bytes().starts_with(b"user.") && !is_mark;
        if !(is_users || (is_directory && name == own_mark)) {
            continue;
        }
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        match rustix::fs::fgetxattr(from, name, &mut value[..]) {
            Ok(length) => {
                rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
            }
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn open_directory(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Whether the place changed under our hands: then it is as if it had never been there.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // A name that was moved while its directory was read can be listed twice: `EXIST`.
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV, Errno::NXIO, Errno::EXIST];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|it| it.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn everything_is_there_with_its_modes_links_holes_and_marks() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("closed/in")).unwrap();
        fs::write(from.join("closed/in/file"), "x").unwrap();
        fs::hard_link(from.join("closed/in/file"), from.join("second")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        rustix::fs::mknodat(CWD, from.join("gone"), FileType::CharacterDevice, Mode::empty(), 0)
            .unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 40) - 3).unwrap();
        fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("closed/in/file")).unwrap(), b"x");
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("second"), inode("closed/in/file"));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::symlink_metadata(to.join("gone")).unwrap().rdev(), 0);
        let sparse = fs::metadata(to.join("sparse")).unwrap();
        assert_eq!(sparse.len(), 1 << 40);
        assert!(sparse.blocks() < 1_000, "{} blocks", sparse.blocks());
        assert_eq!(fs::metadata(to.join("closed")).unwrap().mode() & 0o777, 0o500);
    }

    /// Also when an assertion fails: the scope waits for the other thread.
    struct StopAtTheEnd<'a>(&'a AtomicBool);

    impl Drop for StopAtTheEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_directory_that_becomes_a_link_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "host").unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::write(from.join("d/secret"), "own").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Each step may fail where the one before did.
                    let _ = fs::rename(from.join("d"), from.join("real"));
                    let _ = symlink(&outside, from.join("d"));
                    let _ = fs::remove_file(from.join("d"));
                    let _ = fs::rename(from.join("real"), from.join("d"));
                }
            });
            let _stop = StopAtTheEnd(&stop);
            for round in 0..300 {
                let to = dir.path().join(format!("to-{round}"));
                copy_tree(&from, &to).unwrap();
                for entry in walkdir::WalkDir::new(&to).follow_links(false) {
                    let path = entry.unwrap().into_path();
                    if path.is_file() && !path.is_symlink() {
                        assert_ne!(fs::read(&path).unwrap(), b"host", "{}", path.display());
                    }
                }
                fs::remove_dir_all(&to).unwrap();
            }
        });
    }
}
