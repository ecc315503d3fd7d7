//! The program that copies, inside the container of a `COPY` step.
//!
//! It runs inside so that every link on the way resolves in the image and not on this machine, and
//! so that the overlay decides what a directory already is. It reads its orders from a file and
//! needs nothing of the image.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use serde::{Deserialize, Serialize};

use super::context::Item;

/// Where the program is found inside a container.
pub(crate) const PATH: &str = "/__modal/.bin/image-copy";

/// All that one run does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) items: Vec<Item>,
    /// Instead of root.
    pub(crate) owner: Option<(u32, u32)>,
    /// Instead of the sources' permission bits.
    pub(crate) mode: Option<u32>,
}

/// Carries out the orders in the file that is the only argument. Errors go to stderr, exit code 1.
pub(crate) fn main(args: Vec<OsString>) -> i32 {
    let done = match args.get(1) {
        Some(path) => carry_out(Path::new(path)),
        None => Err(Failure::new("the file of orders", io::ErrorKind::InvalidInput.into())),
    };
    match done {
        Ok(()) => 0,
        Err(Failure { path, source }) => {
            // There is nobody to tell that stderr is gone.
            let _ = writeln!(io::stderr(), "could not copy `{}`: {source}", path.display());
            1
        }
    }
}

struct Failure {
    path: PathBuf,
    source: io::Error,
}

impl Failure {
    fn new(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { path: path.into(), source }
    }

    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(path, source)
    }
}

fn carry_out(path: &Path) -> Result<(), Failure> {
    let text = fs::read(path).map_err(Failure::at(path))?;
    let orders: Orders =
        serde_json::from_slice(&text).map_err(|error| Failure::new(path, error.into()))?;
    for item in &orders.items {
        match item {
            Item::Directory { to } => orders.directory(Path::new(to))?,
            Item::File { from, to, mode, name } => {
                let mut to = PathBuf::from(to);
                if to.is_dir() {
                    to.push(name);
                }
                orders.file(Path::new(from), &to, *mode)?;
            }
            Item::Tree { root, path, to, into_directory } => {
                orders.tree(Path::new(root), path, Path::new(to), *into_directory)?;
            }
        }
    }
    Ok(())
}

impl Orders {
    /// Makes a directory and its parents; those that exist stay as they are.
    fn directory(&self, path: &Path) -> Result<(), Failure> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        fs::create_dir(path).map_err(Failure::at(path))?;
        set_mode(path, 0o755)?;
        self.own(path, (0, 0))
    }

    fn file(&self, from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
        self.make_room(to)?;
        let mut source = File::open(from).map_err(Failure::at(from))?;
        let mut target = File::create_new(to).map_err(Failure::at(to))?;
        io::copy(&mut source, &mut target).map_err(Failure::at(to))?;
        self.own(to, (0, 0))?;
        set_mode(to, self.mode.unwrap_or(mode) & 0o7777)
    }

    /// Makes the parents, and removes a file or link that is in the way.
    fn make_room(&self, to: &Path) -> Result<(), Failure> {
        if let Some(parent) = to.parent() {
            self.directory(parent)?;
        }
        match fs::symlink_metadata(to) {
            Ok(found) if !found.is_dir() => fs::remove_file(to).map_err(Failure::at(to)),
            _ => Ok(()),
        }
    }

    /// Copies what lies at `path` below `root`, found as if `root` were `/`.
    fn tree(&self, root: &Path, path: &str, to: &Path, into: bool) -> Result<(), Failure> {
        let found = resolve_in(root, path).map_err(|error| Failure::new(path, error))?;
        let metadata = fs::metadata(&found).map_err(Failure::at(&found))?;
        let mut to = to.to_owned();
        if !metadata.is_dir() && (into || to.is_dir()) {
            to.push(Path::new(path).file_name().unwrap_or_default());
        }
        let mut pending = vec![(found, to)];
        while let Some((from, to)) = pending.pop() {
            let metadata = fs::symlink_metadata(&from).map_err(Failure::at(&from))?;
            if metadata.is_dir() {
                self.directory(&to)?;
                set_mode(&to, self.mode.unwrap_or(metadata.mode()) & 0o7777)?;
                for entry in fs::read_dir(&from).map_err(Failure::at(&from))? {
                    let entry = entry.map_err(Failure::at(&from))?;
                    pending.push((entry.path(), to.join(entry.file_name())));
                }
            } else if metadata.is_symlink() {
                self.make_room(&to)?;
                let link = fs::read_link(&from).map_err(Failure::at(&from))?;
                symlink(link, &to).map_err(Failure::at(&to))?;
            } else if metadata.is_file() {
                self.file(&from, &to, metadata.mode())?;
                self.own(&to, (metadata.uid(), metadata.gid()))?;
            }
        }
        Ok(())
    }

    fn own(&self, path: &Path, otherwise: (u32, u32)) -> Result<(), Failure> {
        let (uid, gid) = self.owner.unwrap_or(otherwise);
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Failure::new(path, error.into()))
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Failure::at(path))
}

/// The real path of `path` inside `root`: links, absolute ones too, are followed within it.
fn resolve_in(root: &Path, path: &str) -> io::Result<PathBuf> {
    let directory = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::PATH, Mode::empty())?;
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(directory, relative, OFlags::PATH, Mode::empty(), flags)?;
    fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, orders: &Orders) -> i32 {
        let path = dir.join("orders.json");
        fs::write(&path, serde_json::to_vec(orders).unwrap()).unwrap();
        main(vec![PATH.into(), path.into()])
    }

    fn text(path: &Path) -> String {
        path.display().to_string()
    }

    #[test]
    fn files_get_their_mode_and_replace_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("a/b/to"));
        fs::write(&from, "new").unwrap();
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        symlink("/etc/hostname", &to).unwrap();
        let file = Item::File { from: text(&from), to: text(&to), mode: 0o751, name: "n".into() };
        let into = Item::File {
            from: text(&from),
            to: text(&dir.path().join("a")),
            mode: 0o600,
            name: "inside".into(),
        };
        let orders = Orders { items: vec![file, into], owner: None, mode: None };
        assert_eq!(run(dir.path(), &orders), 0);
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        let metadata = fs::symlink_metadata(&to).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o7777 == 0o751);
        assert!(dir.path().join("a/inside").is_file());
    }

    #[test]
    fn a_tree_resolves_its_links_within_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real/sub")).unwrap();
        fs::write(root.join("real/sub/file"), "x").unwrap();
        symlink("/real", root.join("link")).unwrap();
        let tree = Item::Tree {
            root: text(&root),
            path: "/link/sub".into(),
            to: text(&dir.path().join("out")),
            into_directory: false,
        };
        let orders = Orders { items: vec![tree], owner: None, mode: None };
        assert_eq!(run(dir.path(), &orders), 0);
        assert_eq!(fs::read_to_string(dir.path().join("out/file")).unwrap(), "x");
    }

    #[test]
    fn a_missing_source_is_an_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let file = Item::File {
            from: "/nonexistent".into(),
            to: text(&dir.path().join("x")),
            mode: 0,
            name: String::new(),
        };
        assert_eq!(run(dir.path(), &Orders { items: vec![file], owner: None, mode: None }), 1);
        assert_eq!(main(vec![PATH.into()]), 1);
    }
}
