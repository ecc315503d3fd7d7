//! The inotify watches and the paths they stand for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// One watch for the path, and with `recursive` one for every directory below it.
#[derive(Debug)]
pub(super) struct Tree {
    inotify: OwnedFd,
    paths: HashMap<i32, PathBuf>,
    root: PathBuf,
    root_watch: i32,
    recursive: bool,
    flags: WatchFlags,
}

impl Tree {
    /// Watches what `path` leads to. `access` adds reads, opens and closes, which are many.
    pub(super) fn watch(path: &Path, recursive: bool, access: bool) -> io::Result<Self> {
        let root = fs::canonicalize(path)?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes =
            WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE;
        let contents = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::EXCL_UNLINK;
        let reads = WatchFlags::ACCESS | WatchFlags::OPEN | WatchFlags::CLOSE_WRITE;
        let flags = changes | contents | if access { reads } else { WatchFlags::empty() };
        let root_watch = inotify::add_watch(&inotify, &root, flags)?;
        let paths = HashMap::from([(root_watch, root.clone())]);
        let mut tree = Self { inotify, paths, root, root_watch, recursive, flags };
        if recursive && tree.root.is_dir() {
            let root = tree.root.clone();
            tree.add_below(&root)?;
        }
        Ok(tree)
    }

    pub(super) fn inotify(&self) -> &OwnedFd {
        &self.inotify
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_root(&self, watch: i32) -> bool {
        watch == self.root_watch
    }

    /// The path that a watch stands for.
    pub(super) fn path(&self, watch: i32) -> Option<&Path> {
        self.paths.get(&watch).map(PathBuf::as_path)
    }

    /// Watches the new directory `path` and all below it, where that is asked for. Answers what was in it
    /// already: nobody else will tell.
    pub(super) fn add(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.recursive || !self.add_one(path)? {
            return Ok(Vec::new());
        }
        self.add_below(path)
    }

    /// Directories that moved within the tree keep their watches under another path.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        for path in self.paths.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            }
        }
    }

    /// Directories that left the tree are watched no longer.
    pub(super) fn forget_below(&mut self, path: &Path) {
        let gone: Vec<i32> = self
            .paths
            .iter()
            .filter(|(_, known)| known.starts_with(path))
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            self.paths.remove(&watch);
            // The kernel may have dropped it already.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// The kernel dropped this watch.
    pub(super) fn forget(&mut self, watch: i32) {
        self.paths.remove(&watch);
    }

    fn add_below(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut waiting = vec![path.to_owned()];
        while let Some(directory) = waiting.pop() {
            // One that vanished or may not be read has nothing to tell.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.add_one(&path)? {
                    waiting.push(path.clone());
                }
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Whether `path` is a directory that is now watched. Running out of watches is an error.
    fn add_one(&mut self, path: &Path) -> io::Result<bool> {
        let flags = self.flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => {
                self.paths.insert(watch, path.to_owned());
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}
