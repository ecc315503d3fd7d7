//! Deleting what programs have written: however deep, wide or unreadable. Links are removed, never followed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::ids::random_suffix;

/// Levels of directories that are deleted in place; those below are moved up first, which costs more.
const NESTED: usize = 16;

/// Moves a directory into the trash and deletes it there. Nothing may write to it any more.
pub(crate) fn discard(root: &Path, trash: &Path) -> io::Result<()> {
    remove(&move_into(root, trash)?, trash).map(drop)
}

/// Deletes a file or a directory to which nothing writes any more; answers the bytes of the files in it.
/// Directories deep inside are first moved to `aside`, on the same file system: neither paths, nor open files,
/// nor the stack grow with the depth.
pub(crate) fn remove(path: &Path, aside: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        fs::remove_file(path)?;
        return Ok(if found.is_file() { found.len() } else { 0 });
    }
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(dir) = pending.pop() {
        bytes += delete(&dir, NESTED, &mut |deep| {
            pending.push(move_into(deep, aside)?);
            Ok(())
        })?;
    }
    Ok(bytes)
}

/// Deletes a directory and, so many levels down, what it holds. Deeper directories are handed to
/// `move_away`.
fn delete(
    dir: &Path,
    levels: usize,
    move_away: &mut impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<u64> {
    // Most directories are empty: one call does it.
    if fs::remove_dir(dir).is_ok() {
        return Ok(0);
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        match (kind.is_dir(), levels.checked_sub(1)) {
            (false, _) => {
                bytes += if kind.is_file() { entry.metadata()?.len() } else { 0 };
                fs::remove_file(entry.path())?;
            }
            (true, Some(levels)) => bytes += delete(&entry.path(), levels, move_away)?,
            (true, None) => move_away(&entry.path())?,
        }
    }
    fs::remove_dir(dir)?;
    Ok(bytes)
}

fn move_into(path: &Path, trash: &Path) -> io::Result<PathBuf> {
    // A directory can only be moved by who may write to it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let target = trash.join(random_suffix());
    fs::rename(path, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_program_left_is_deleted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, trash) = (dir.path().join("root"), dir.path().join("trash"));
        let outside = dir.path().join("outside");
        fs::create_dir(&trash).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(&outside, "stays").unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("a/dir-link")).unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        discard(&root, &trash).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
    }

    #[test]
    fn depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir(&trash).unwrap();
        // Built from the inside out: the path from the outside would be too long to write.
        let mut inner = dir.path().join("d0");
        fs::create_dir(&inner).unwrap();
        for level in 1..3_000 {
            let outer = dir.path().join(format!("d{level}"));
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("x")).unwrap();
            inner = outer;
        }
        discard(&inner, &trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }
}
