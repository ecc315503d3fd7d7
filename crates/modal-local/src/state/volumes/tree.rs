//! The live directory of a volume, entered only through descriptors.
//!
//! Sandboxes write to it while we work in it, symbolic links included. So no path is ever resolved
//! as a whole: we go down name by name and refuse to follow a link, and what we open for reading
//! may follow links only as long as the kernel keeps it below the root.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::path::VolumePath;
use crate::error::{Error, Result};

/// How we open directories on the way.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How we open files: never a terminal, and never waiting for the other end of a pipe.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

/// A volume's directory. Everything here blocks. Clones share the descriptor.
#[derive(Clone)]
pub(crate) struct Tree {
    root: Arc<OwnedFd>,
    path: PathBuf,
}

impl Tree {
    /// Opens the directory at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let root = rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::file("open", path)(errno.into()))?;
        Ok(Self { root: Arc::new(root), path: path.to_owned() })
    }

    /// Where the directory is on this machine, for messages and mounts.
    pub(crate) fn location(&self) -> &Path {
        &self.path
    }

    /// The directory at `names`.
    pub(crate) fn directory(&self, names: &[String]) -> Result<OwnedFd> {
        self.walk(names, |_, _| Err(Errno::NOENT))
    }

    /// The directory at `names`, made where it is missing.
    pub(crate) fn make_directory(&self, names: &[String]) -> Result<OwnedFd> {
        self.walk(names, |parent, name| {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno),
            }
        })
    }

    /// What is at `path`, links not followed; `None` if nothing is.
    pub(crate) fn stat(&self, path: &VolumePath) -> Result<Option<Stat>> {
        let Some((parents, name)) = path.split_last() else {
            return rustix::fs::fstat(&*self.root).map(Some).map_err(|it| self.error(path, it));
        };
        let parent = match self.directory(parents) {
            Err(error) if error.is_not_found() => return Ok(None),
            parent => parent?,
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(path, errno)),
        }
    }

    /// Opens the regular file at `path` for reading. A link is followed if it stays in the volume.
    pub(crate) fn open_file(&self, path: &VolumePath) -> Result<File> {
        let fd = self.open_beneath(path).map_err(|errno| self.error(path, errno))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error(path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            FileType::Directory => {
                Err(Error::Precondition(format!("`{path}` is a directory, not a file")))
            }
            _ => Err(Error::Precondition(format!("`{path}` is not a regular file"))),
        }
    }

    #[cfg(target_os = "linux")]
    fn open_beneath(&self, path: &VolumePath) -> Result<OwnedFd, Errno> {
        use rustix::fs::ResolveFlags;
        let text = path.to_string();
        let name = if text.is_empty() { "." } else { &text };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN says that a rename raced with us; kernels ask to try again.
        for _ in 0..8 {
            match rustix::fs::openat2(&*self.root, name, READ, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => return self.open_strictly(path),
                other => return other,
            }
        }
        self.open_strictly(path)
    }

    #[cfg(not(target_os = "linux"))]
    fn open_beneath(&self, path: &VolumePath) -> Result<OwnedFd, Errno> {
        self.open_strictly(path)
    }

    /// Opens without following any link: for systems that cannot keep a look-up below a directory.
    fn open_strictly(&self, path: &VolumePath) -> Result<OwnedFd, Errno> {
        let Some((parents, name)) = path.split_last() else {
            return self.root.try_clone().map_err(|_| Errno::MFILE);
        };
        let mut at = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        for name in parents {
            at = rustix::fs::openat(&at, name.as_str(), DIRECTORY, Mode::empty())?;
        }
        rustix::fs::openat(&at, name, READ | OFlags::NOFOLLOW, Mode::empty())
    }

    fn walk(
        &self,
        names: &[String],
        on_missing: impl Fn(BorrowedFd<'_>, &str) -> Result<(), Errno>,
    ) -> Result<OwnedFd> {
        let mut at = self.root.try_clone().map_err(Error::file("open", &self.path))?;
        for (depth, name) in names.iter().enumerate() {
            let step =
                |at: &OwnedFd| rustix::fs::openat(at, name.as_str(), DIRECTORY, Mode::empty());
            let next = match step(&at) {
                Err(Errno::NOENT) => on_missing(at.as_fd(), name).and_then(|()| step(&at)),
                other => other,
            };
            at = next.map_err(|errno| self.error(&names[..=depth].join("/"), errno))?;
        }
        Ok(at)
    }

    /// What an error of the kernel about `path` means to a client.
    pub(crate) fn error(&self, path: &impl ToString, errno: Errno) -> Error {
        let path = path.to_string();
        match errno {
            Errno::NOENT => Error::not_found("file", path),
            Errno::EXIST => Error::already_exists("file", path),
            Errno::NOTDIR | Errno::LOOP => {
                Error::Precondition(format!("`{path}` is not a directory"))
            }
            Errno::ISDIR => Error::Precondition(format!("`{path}` is a directory")),
            Errno::NOTEMPTY => Error::Precondition(format!("directory `{path}` is not empty")),
            Errno::XDEV => {
                Error::Precondition(format!("`{path}` is a link that leads out of the volume"))
            }
            // What opening a socket, or a device without a driver, says.
            Errno::NXIO | Errno::NODEV => {
                Error::Precondition(format!("`{path}` is not a regular file"))
            }
            Errno::AGAIN => Error::Precondition(format!("`{path}` changes while it is used")),
            Errno::NAMETOOLONG => Error::invalid("a name or the path is too long"),
            Errno::ACCESS => Error::Precondition(format!("`{path}` must not be opened")),
            errno => Error::file("use", self.path.join(path))(io::Error::from(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
        std::fs::write(dir.path().join("outside.txt"), "outside").unwrap();
        std::fs::write(dir.path().join("tree/sub/a.txt"), "inside").unwrap();
        let tree = Tree::open(&dir.path().join("tree")).unwrap();
        (dir, tree)
    }

    fn path(text: &str) -> VolumePath {
        VolumePath::parse(text).unwrap()
    }

    fn read(tree: &Tree, text: &str) -> Result<String> {
        let mut contents = String::new();
        tree.open_file(&path(text))?.read_to_string(&mut contents).unwrap();
        Ok(contents)
    }

    #[test]
    fn reads_follow_links_only_inside_the_volume() {
        let (dir, tree) = tree();
        let root = dir.path().join("tree");
        symlink("sub/a.txt", root.join("good")).unwrap();
        symlink("../outside.txt", root.join("up")).unwrap();
        symlink(dir.path().join("outside.txt"), root.join("absolute")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        symlink("..", root.join("dir")).unwrap();
        assert_eq!(read(&tree, "good").unwrap(), "inside");
        for bad in ["up", "absolute", "magic", "dir/outside.txt"] {
            assert!(read(&tree, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_directory_is_made_or_entered_through_a_link() {
        let (dir, tree) = tree();
        symlink(dir.path(), dir.path().join("tree/link")).unwrap();
        let names = |text: &str| path(text).names().to_vec();
        tree.make_directory(&names("link/made")).unwrap_err();
        tree.directory(&names("link")).unwrap_err();
        assert!(!dir.path().join("made").exists());
        tree.make_directory(&names("new/deep")).unwrap();
        assert!(dir.path().join("tree/new/deep").is_dir());
    }

    #[test]
    fn pipes_and_directories_are_no_files() {
        let (dir, tree) = tree();
        let pipe = dir.path().join("tree/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        tree.open_file(&path("pipe")).unwrap_err();
        tree.open_file(&path("sub")).unwrap_err();
        assert!(tree.open_file(&path("nope")).unwrap_err().is_not_found());
        assert!(tree.open_file(&path("nope/deeper")).unwrap_err().is_not_found());
    }
}
