//! From inotify's changes to the events that the SDKs know.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::inotify::{self, ReadFlags};

use super::tree::Tree;

/// The event types by the names that the SDKs filter for; they show the three renames as `Modify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Create,
    Modify,
    Remove,
    /// From the first path to the second.
    Rename,
    /// To somewhere that is not watched.
    RenameFrom,
    /// From somewhere that is not watched.
    RenameTo,
    /// Changes were lost: more happened than the kernel keeps.
    Unknown,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Access => "Access",
            Self::Create => "Create",
            Self::Modify => "Modify",
            Self::Remove => "Remove",
            Self::Rename => "Rename",
            Self::RenameFrom => "RenameFrom",
            Self::RenameTo => "RenameTo",
            Self::Unknown => "Unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) paths: Vec<PathBuf>,
}

/// The first half of a rename.
#[derive(Debug)]
struct Leaving {
    cookie: u32,
    path: PathBuf,
    directory: bool,
}

/// Puts renames together, and follows directories as they come and go.
#[derive(Debug)]
pub(super) struct Translator {
    tree: Tree,
    leaving: Option<Leaving>,
    /// Reported when their directory was found; the kernel may report them again.
    reported: HashSet<PathBuf>,
    events: Vec<Event>,
    over: bool,
}

impl Translator {
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree, leaving: None, reported: HashSet::new(), events: Vec::new(), over: false }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the watched path itself is gone.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn waits_for_rename(&self) -> bool {
        self.leaving.is_some()
    }

    /// The events so far.
    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Nothing more came: what left went out of sight, and nothing is reported twice any more.
    pub(super) fn give_up_rename(&mut self) {
        self.reported.clear();
        if let Some(left) = self.leaving.take() {
            if left.directory {
                self.tree.forget_below(&left.path);
            }
            self.push(Kind::RenameFrom, [left.path]);
        }
    }

    pub(super) fn translate(&mut self, change: &inotify::Event<'_>) -> io::Result<()> {
        let (watch, flags) = (change.wd(), change.events());
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            let root = self.tree.root().to_owned();
            self.push(Kind::Unknown, [root]);
            return Ok(());
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.tree.forget(watch);
            self.over |= self.tree.is_root(watch);
            return Ok(());
        }
        let Some(base) = self.tree.path(watch) else { return Ok(()) };
        let path = match change.file_name() {
            Some(name) => base.join(OsStr::from_bytes(name.to_bytes())),
            None if self.tree.is_root(watch) => base.to_owned(),
            // Its parent's watch tells the same.
            None => return Ok(()),
        };
        let directory = flags.contains(ReadFlags::ISDIR);
        if flags.contains(ReadFlags::MOVED_TO) {
            return self.arrived(change.cookie(), path, directory);
        }
        if self.leaving.is_some() {
            let reported = std::mem::take(&mut self.reported);
            self.give_up_rename();
            self.reported = reported;
        }
        if flags.contains(ReadFlags::MOVED_FROM) {
            self.leaving = Some(Leaving { cookie: change.cookie(), path, directory });
        } else if flags.contains(ReadFlags::CREATE) {
            self.created(path, directory)?;
        } else if flags.intersects(ReadFlags::DELETE | ReadFlags::DELETE_SELF) {
            self.push(Kind::Remove, [path]);
        } else if flags.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB) {
            self.push(Kind::Modify, [path]);
        } else if !directory
            && flags.intersects(ReadFlags::ACCESS | ReadFlags::OPEN | ReadFlags::CLOSE_WRITE)
        {
            self.push(Kind::Access, [path]);
        }
        Ok(())
    }

    fn arrived(&mut self, cookie: u32, path: PathBuf, directory: bool) -> io::Result<()> {
        match self.leaving.take_if(|left| left.cookie == cookie) {
            Some(left) => {
                if directory {
                    self.tree.rename(&left.path, &path);
                }
                self.push(Kind::Rename, [left.path, path]);
                Ok(())
            }
            None => {
                self.push(Kind::RenameTo, [path.clone()]);
                if directory { self.found(&path) } else { Ok(()) }
            }
        }
    }

    fn created(&mut self, path: PathBuf, directory: bool) -> io::Result<()> {
        if self.reported.remove(&path) {
            return Ok(());
        }
        self.push(Kind::Create, [path.clone()]);
        if directory { self.found(&path) } else { Ok(()) }
    }

    fn found(&mut self, directory: &std::path::Path) -> io::Result<()> {
        for path in self.tree.add(directory)? {
            self.push(Kind::Create, [path.clone()]);
            self.reported.insert(path);
        }
        Ok(())
    }

    fn push<const N: usize>(&mut self, kind: Kind, paths: [PathBuf; N]) {
        self.events.push(Event { kind, paths: paths.into() });
    }
}
