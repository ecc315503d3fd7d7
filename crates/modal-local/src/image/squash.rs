//! Many layers as one directory, by hard links: cheap to make, cheap to look up in.
//!
//! Overlay mounts look for a missing name in every layer, so long chains are slow (a Python start is
//! thousands of such look-ups). The result keeps what the layers say about deleted names, because it
//! goes on top of a base.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};

use crate::error::{Error, Result};

/// Attributes by which overlayfs marks a directory that hides the one below it.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
/// Attributes of a directory that was moved: its contents are elsewhere.
const REDIRECT: [&str; 2] = ["trusted.overlay.redirect", "user.overlay.redirect"];

/// Merges `layers`, lowest first, into the new directory `target` on the same file system, to go on
/// top of a base.
pub(crate) fn merge(layers: &[&Path], target: &Path) -> Result<()> {
    merge_into(layers, target, false, &|_| true)
}

/// Merges `layers` into `target` as a root of its own: marks for deleted names are left out. Of what
/// lies at the top, only `paths` need to be there; if a link leads from them elsewhere, all is.
pub(crate) fn merge_root(layers: &[&Path], target: &Path, paths: &[String]) -> Result<()> {
    let top = |path: &str| path.trim_start_matches('/').split('/').next().unwrap_or("").to_owned();
    let names: Vec<String> = paths.iter().map(|path| top(path)).collect();
    let is_partial = !names.iter().any(String::is_empty);
    let wanted = |name: &OsStr| !is_partial || names.iter().any(|known| name == known.as_str());
    merge_into(layers, target, true, &wanted)?;
    if is_partial && paths.iter().any(|path| leads_elsewhere(target, path)) {
        remove(target)?;
        merge_into(layers, target, true, &|_| true)?;
    }
    Ok(())
}

/// Whether a part of `path` is a link, or is not there.
fn leads_elsewhere(root: &Path, path: &str) -> bool {
    let mut place = root.to_owned();
    path.split('/').filter(|part| !part.is_empty()).any(|part| {
        place.push(part);
        fs::symlink_metadata(&place).map_or(true, |found| found.is_symlink())
    })
}

fn merge_into(
    layers: &[&Path],
    target: &Path,
    on_top_of_nothing: bool,
    wanted: &dyn Fn(&OsStr) -> bool,
) -> Result<()> {
    fs::create_dir(target).map_err(Error::file("create", target))?;
    for layer in layers {
        let layer = fs::canonicalize(layer).map_err(Error::file("find", layer))?;
        merge_directory(&layer, target, on_top_of_nothing, wanted)?;
    }
    Ok(())
}

/// Puts the directory `source` over the directory `target`, without recursion into depth: layers
/// may hold paths deeper than a stack.
fn merge_directory(
    root: &Path,
    target: &Path,
    drop_marks: bool,
    wanted: &dyn Fn(&OsStr) -> bool,
) -> Result<()> {
    let mut pending = vec![(root.to_owned(), target.to_owned())];
    while let Some((source, target)) = pending.pop() {
        copy_metadata(&source, &target)?;
        for entry in fs::read_dir(&source).map_err(Error::file("read", &source))? {
            let entry = entry.map_err(Error::file("read", &source))?;
            if source == root && !wanted(&entry.file_name()) {
                continue;
            }
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            let kind = entry.file_type().map_err(Error::file("look at", &from))?;
            if kind.is_dir() {
                prepare_directory(&from, &to, drop_marks)?;
                pending.push((from, to));
            } else {
                remove(&to)?;
                if !(drop_marks && is_whiteout(&from)?) {
                    fs::hard_link(&from, &to).map_err(Error::file("link", &to))?;
                }
            }
        }
    }
    Ok(())
}

/// Makes sure that `to` is a directory, empty if `from` hides what was there.
fn prepare_directory(from: &Path, to: &Path, drop_marks: bool) -> Result<()> {
    if has_attribute(from, &REDIRECT)? {
        return Err(Error::Precondition(format!("`{}` is a moved directory", from.display())));
    }
    let below = fs::symlink_metadata(to).ok();
    let hides_what_was_deleted = below.as_ref().is_some_and(is_mark);
    let opaque = has_attribute(from, &OPAQUE)?;
    if opaque || below.as_ref().is_some_and(|below| !below.is_dir()) {
        remove(to)?;
    }
    match fs::create_dir(to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("create", to)(error))
        }
        _ if (opaque || hides_what_was_deleted) && !drop_marks => set_opaque(to),
        _ => Ok(()),
    }
}

fn is_whiteout(path: &Path) -> Result<bool> {
    fs::symlink_metadata(path).map(|m| is_mark(&m)).map_err(Error::file("look at", path))
}

/// A character device 0/0 stands for a deleted name.
fn is_mark(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(Error::file("remove", path))
}

fn has_attribute(path: &Path, names: &[&str]) -> Result<bool> {
    let mut value = [0_u8; 256];
    for name in names {
        match rustix::fs::lgetxattr(path, *name, &mut value[..]) {
            Ok(length) if length > 0 => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(Error::file("read an attribute of", path)(error.into())),
        }
    }
    Ok(false)
}

fn set_opaque(path: &Path) -> Result<()> {
    let name = if rustix::process::geteuid().is_root() { OPAQUE[0] } else { OPAQUE[1] };
    rustix::fs::lsetxattr(path, name, b"y", rustix::fs::XattrFlags::empty())
        .map_err(|error| Error::file("set an attribute of", path)(error.into()))
}

/// Owner, mode, times and attributes of a directory; files need none of it, they are links.
fn copy_metadata(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(from).map_err(Error::file("look at", from))?;
    let failed = |error: rustix::io::Errno| Error::file("set the metadata of", to)(error.into());
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed)?;
    }
    rustix::fs::chmod(to, Mode::from_raw_mode(metadata.mode() & 0o7777)).map_err(failed)?;
    for name in attribute_names(from)? {
        copy_attribute(from, to, &name)?;
    }
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn attribute_names(path: &Path) -> Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut buffer = vec![0_u8; 16 * 1024];
    match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => {
            let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Ok(names.map(|name| OsStr::from_bytes(name).to_owned()).collect())
        }
        Err(rustix::io::Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(Error::file("read the attributes of", path)(error.into())),
    }
}

/// Marks of overlayfs are decided on by the merge and not copied.
fn copy_attribute(from: &Path, to: &Path, name: &OsStr) -> Result<()> {
    let is_mark = |text: &str| text.contains(".overlay.");
    if name.to_str().is_none_or(is_mark) {
        return Ok(());
    }
    let mut value = vec![0_u8; 64 * 1024];
    let failed = |error: rustix::io::Errno| Error::file("copy an attribute of", from)(error.into());
    let length = rustix::fs::lgetxattr(from, name, &mut value[..]).map_err(failed)?;
    rustix::fs::lsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn tree(root: &Path, files: &[&str]) -> PathBuf {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::write(&path, root.file_name().unwrap().as_encoded_bytes()).unwrap();
            }
        }
        root.to_owned()
    }

    fn contents(root: &Path) -> Vec<String> {
        let line = |entry: walkdir::DirEntry| {
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            match fs::read_to_string(entry.path()) {
                Ok(text) if entry.file_type().is_file() => format!("{name}: {text}"),
                _ if entry.file_type().is_dir() => format!("{name}/"),
                _ => format!("{name} deleted"),
            }
        };
        let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
        entries.into_iter().map(|entry| line(entry.unwrap())).collect()
    }

    fn whiteout(path: &Path) {
        use rustix::fs::{FileType, mknodat};
        mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn later_layers_win_and_deletions_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let one = tree(&dir.path().join("one"), &["a", "d/x", "d/y", "gone", "e/old", "f"]);
        let two = tree(&dir.path().join("two"), &["d/x", "e/", "f/now-a-directory", "new"]);
        whiteout(&two.join("gone"));
        set_opaque(&two.join("e")).unwrap();
        let target = dir.path().join("target");
        merge(&[&one, &two], &target).unwrap();
        assert_eq!(
            contents(&target),
            [
                "a: one",
                "d/",
                "d/x: two",
                "d/y: one",
                "e/",
                "f/",
                "f/now-a-directory: two",
                "gone deleted",
                "new: two"
            ]
        );
        assert!(has_attribute(&target.join("e"), &OPAQUE).unwrap());

        let alone = dir.path().join("alone");
        merge_root(&[&one, &two], &alone, &["/".to_owned()]).unwrap();
        assert!(!contents(&alone).iter().any(|line| line.contains("gone")));
    }

    #[test]
    fn only_what_is_asked_for_is_merged_unless_a_link_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let layer = tree(&dir.path().join("layer"), &["a/x", "b/y"]);
        std::os::unix::fs::symlink("/b", layer.join("link")).unwrap();
        let merged = |name: &str, path: &str| {
            let target = dir.path().join(name);
            merge_root(&[&layer], &target, &[path.to_owned()]).unwrap();
            contents(&target)
        };
        assert_eq!(merged("one", "/a/x"), ["a/", "a/x: layer"]);
        assert!(merged("two", "/link/y").contains(&"b/y: layer".to_owned()));
    }
}
