//! What is in a volume: listing, removing and copying.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use tempfile::NamedTempFile;

use super::path::VolumePath;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::ids::random_suffix;

/// Deepest directory that is listed or copied: deeper ones are made to trouble us.
const MAX_DEPTH: usize = 256;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the volume's root, without leading slash.
    pub(crate) path: String,
    pub(crate) kind: FileType,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: u64,
}

/// Hands every entry below `path` to `emit`, sorted by name within a directory, until it says stop
/// by answering false. The path of a file lists that file. Blocks.
pub(crate) fn list(
    tree: &Tree,
    path: &VolumePath,
    recursive: bool,
    emit: &mut dyn FnMut(Entry) -> bool,
) -> Result<()> {
    let stat = tree.stat(path)?.ok_or_else(|| Error::not_found("file", path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        emit(entry(path, &stat));
        return Ok(());
    }
    list_directory(tree, path, recursive, emit).map(drop)
}

fn list_directory(
    tree: &Tree,
    path: &VolumePath,
    recursive: bool,
    emit: &mut dyn FnMut(Entry) -> bool,
) -> Result<bool> {
    let directory = match tree.directory(path.names()) {
        // It went away, or became something else, while we were on our way.
        Err(Error::NotFound { .. } | Error::Precondition(_)) if !path.names().is_empty() => {
            return Ok(true);
        }
        directory => directory?,
    };
    for name in names(tree, path, &directory)? {
        let Ok(stat) = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let child = path.join(&String::from_utf8_lossy(name.to_bytes()));
        if !emit(entry(&child, &stat)) {
            return Ok(false);
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if recursive
            && is_directory
            && child.names().len() < MAX_DEPTH
            && !list_directory(tree, &child, recursive, emit)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn entry(path: &VolumePath, stat: &Stat) -> Entry {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let size = if kind == FileType::RegularFile { stat.st_size } else { 0 };
    Entry {
        path: path.to_string(),
        kind,
        size: u64::try_from(size).unwrap_or(0),
        modified: u64::try_from(stat.st_mtime).unwrap_or(0),
    }
}

/// The names in a directory, sorted.
fn names(tree: &Tree, path: &VolumePath, directory: &OwnedFd) -> Result<Vec<std::ffi::CString>> {
    let failed = |errno| tree.error(path, errno);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Moves what is at `path` into `trash`, in one step; of the root, everything in it. Blocks.
pub(crate) fn remove(tree: &Tree, path: &VolumePath, recursive: bool, trash: &Path) -> Result<()> {
    let stat = tree.stat(path)?.ok_or_else(|| Error::not_found("file", path))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && !recursive {
        return Err(Error::invalid(format!(
            "`{path}` is a directory; ask for it to be removed recursively"
        )));
    }
    let Some((parents, name)) = path.split_last() else {
        let root = tree.directory(&[])?;
        return names(tree, path, &root)?
            .iter()
            .try_for_each(|name| discard(tree, path, &root, name.as_c_str(), trash));
    };
    discard(tree, path, &tree.directory(parents)?, name, trash)
}

fn discard(
    tree: &Tree,
    path: &VolumePath,
    parent: &OwnedFd,
    name: impl rustix::path::Arg,
    trash: &Path,
) -> Result<()> {
    let place = trash.join(random_suffix());
    rustix::fs::renameat(parent, name, rustix::fs::CWD, &place)
        .map_err(|errno| tree.error(path, errno))
}

/// Whether what is copied goes into `target`, as it does into a directory, or becomes it. One that
/// must be a directory and is not there yet is made, which `cp` would refuse and Modal does. Blocks.
pub(crate) fn goes_into(tree: &Tree, target: &VolumePath, must_be_directory: bool) -> Result<bool> {
    let kind = tree.stat(target)?.map(|it| FileType::from_raw_mode(it.st_mode));
    match kind {
        Some(FileType::Directory) => Ok(true),
        Some(_) if must_be_directory => {
            Err(Error::Precondition(format!("`{target}` is not a directory")))
        }
        Some(_) => Ok(false),
        None => Ok(must_be_directory),
    }
}

/// Copies files, and with `recursive` directories, like `cp`: `into` a directory or onto the target.
/// Blocks.
pub(crate) fn copy(
    tree: &Tree,
    staging: &Path,
    sources: &[VolumePath],
    target: &VolumePath,
    into: bool,
    recursive: bool,
) -> Result<()> {
    let copying = Copying { tree, staging, recursive };
    for source in sources {
        let to = match source.split_last() {
            Some((_, name)) if into => target.join(name),
            _ => target.clone(),
        };
        if to.names().starts_with(source.names()) {
            return Err(Error::invalid(format!("`{source}` cannot be copied onto or into itself")));
        }
        copying.any(source, &to)?;
    }
    Ok(())
}

struct Copying<'a> {
    tree: &'a Tree,
    staging: &'a Path,
    recursive: bool,
}

impl Copying<'_> {
    fn any(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let stat = self.tree.stat(from)?.ok_or_else(|| Error::not_found("file", from))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !self.recursive => {
                Err(Error::invalid(format!("`{from}` is a directory; copy it recursively")))
            }
            FileType::Directory if from.names().len() >= MAX_DEPTH => {
                Err(Error::invalid(format!("directories are nested too deeply at `{from}`")))
            }
            FileType::Directory => self.directory(from, to),
            FileType::Symlink => self.link(from, to),
            FileType::RegularFile => self.file(from, to),
            _ => Err(Error::Precondition(format!("`{from}` is not a regular file"))),
        }
    }

    fn directory(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        self.tree.make_directory(to.names())?;
        for name in names(self.tree, from, &self.tree.directory(from.names())?)? {
            let name = String::from_utf8_lossy(name.to_bytes()).into_owned();
            self.any(&from.join(&name), &to.join(&name))?;
        }
        Ok(())
    }

    fn link(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let failed = |errno| self.tree.error(to, errno);
        let (parent, name) = self.place(from)?;
        let target = rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(failed)?;
        let (parent, name) = self.place(to)?;
        // An old entry is replaced, like a file is; a directory makes the next step fail.
        let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
        rustix::fs::symlinkat(&target, &parent, name).map_err(failed)
    }

    fn file(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let failed = Error::file("copy", self.tree.location().join(from.to_string()));
        let (parent, name) = self.place(from)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(&parent, name, flags, Mode::empty())
            .map_err(|errno| self.tree.error(from, errno))?;
        let staged = self.duplicate(File::from(source)).map_err(failed)?;
        let (parent, name) = self.place(to)?;
        rustix::fs::renameat(rustix::fs::CWD, staged.path(), parent.as_fd(), name)
            .map_err(|errno| self.tree.error(to, errno))?;
        let _ = staged.into_temp_path().keep();
        Ok(())
    }

    fn duplicate(&self, mut source: File) -> io::Result<NamedTempFile> {
        let mut staged = NamedTempFile::new_in(self.staging)?;
        let mode = source.metadata()?.permissions().mode() & 0o777;
        io::copy(&mut source, staged.as_file_mut())?;
        staged.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        staged.as_file().sync_data()?;
        Ok(staged)
    }

    /// The directory of `path`, made if missing, and the last name.
    fn place<'p>(&self, path: &'p VolumePath) -> Result<(OwnedFd, &'p str)> {
        let (parents, name) = path
            .split_last()
            .ok_or_else(|| Error::invalid("the root of a volume cannot be copied or replaced"))?;
        Ok((self.tree.make_directory(parents)?, name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for part in ["tree/d/e", "staging", "trash"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        fs::write(dir.path().join("tree/a"), "a").unwrap();
        fs::write(dir.path().join("tree/d/b"), "bb").unwrap();
        fs::write(dir.path().join("tree/d/e/c"), "ccc").unwrap();
        symlink("/etc", dir.path().join("tree/d/etc")).unwrap();
        let tree = Tree::open(&dir.path().join("tree")).unwrap();
        (dir, tree)
    }

    fn path(text: &str) -> VolumePath {
        VolumePath::parse(text).unwrap()
    }

    fn paths(tree: &Tree, at: &str, recursive: bool) -> Result<Vec<String>> {
        let mut found = Vec::new();
        list(tree, &path(at), recursive, &mut |entry| {
            found.push(entry.path);
            true
        })?;
        Ok(found)
    }

    #[test]
    fn lists_name_entries_from_the_root_and_do_not_enter_links() {
        let (_dir, tree) = tree();
        assert_eq!(paths(&tree, "/", false).unwrap(), ["a", "d"]);
        assert_eq!(paths(&tree, "", true).unwrap(), ["a", "d", "d/b", "d/e", "d/e/c", "d/etc"]);
        assert_eq!(paths(&tree, "/d", false).unwrap(), ["d/b", "d/e", "d/etc"]);
        assert_eq!(paths(&tree, "d/b", false).unwrap(), ["d/b"]);
        assert!(paths(&tree, "nope", false).unwrap_err().is_not_found());
        assert!(paths(&tree, "d/etc/ssl", true).is_err());
    }

    #[test]
    fn a_list_stops_when_its_reader_is_gone() {
        let (_dir, tree) = tree();
        let mut count = 0;
        list(&tree, &path("/"), true, &mut |_| {
            count += 1;
            count < 3
        })
        .unwrap();
        assert_eq!(count, 3);
    }

    #[test]
    fn directories_are_removed_only_recursively() {
        let (dir, tree) = tree();
        let trash = dir.path().join("trash");
        remove(&tree, &path("d"), false, &trash).unwrap_err();
        remove(&tree, &path("a"), false, &trash).unwrap();
        remove(&tree, &path("d/etc"), true, &trash).unwrap();
        assert!(Path::new("/etc").exists());
        remove(&tree, &path("/"), true, &trash).unwrap();
        assert_eq!(paths(&tree, "/", true).unwrap(), [""; 0]);
        assert!(remove(&tree, &path("a"), false, &trash).unwrap_err().is_not_found());
    }

    #[test]
    fn copies_go_into_directories_as_cp_does() {
        let (dir, tree) = tree();
        let staging = dir.path().join("staging");
        let copy = |from: &[&str], to: &str, recursive| {
            let from: Vec<VolumePath> = from.iter().map(|it| path(it)).collect();
            let into = goes_into(&tree, &path(to), from.len() > 1 || to.ends_with('/'))?;
            super::copy(&tree, &staging, &from, &path(to), into, recursive)
        };
        copy(&["a"], "a2", false).unwrap();
        copy(&["a", "a2"], "d", false).unwrap();
        copy(&["a", "a2"], "made", false).unwrap();
        assert_eq!(paths(&tree, "made", true).unwrap(), ["made/a", "made/a2"]);
        copy(&["a", "a2"], "made/a", false).unwrap_err();
        copy(&["d"], "d2", false).unwrap_err();
        copy(&["d"], "d2", true).unwrap();
        copy(&["d"], "d/e", true).unwrap_err();
        copy(&["a"], "a", true).unwrap_err();
        copy(&["nope"], "x", true).unwrap_err();
        let found = paths(&tree, "d2", true).unwrap();
        assert_eq!(found, ["d2/a", "d2/a2", "d2/b", "d2/e", "d2/e/c", "d2/etc"]);
        assert_eq!(fs::read(dir.path().join("tree/d2/e/c")).unwrap(), b"ccc");
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    }
}
