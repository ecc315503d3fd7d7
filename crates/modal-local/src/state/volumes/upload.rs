//! Uploads: files described by the hashes of their blocks, put together once all blocks are here.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::known::KnownBlocks;
use super::path::VolumePath;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::state::cas::{Cas, Sha256Hash};

/// The length of every block but the last.
pub(crate) const BLOCK: u64 = 8 * 1024 * 1024;
/// The mode of files that come without one.
const DEFAULT_MODE: u32 = 0o644;
/// More files than this are synced together: that waits for what others write too, but once.
const SYNCED_ONE_BY_ONE: usize = 16;
/// So many files are worth a second thread.
const SHARED: usize = 64;
/// Contents of at most this length are copied through memory: the kernel's copy costs more calls.
const SMALL: u64 = 64 << 10;
/// Mode bits that are kept: never set-user-id.
const MODE_MASK: u32 = 0o777;

/// One file of an upload.
#[derive(Debug, Clone)]
pub(crate) struct FileSpec {
    pub(crate) path: VolumePath,
    pub(crate) size: u64,
    pub(crate) mode: Option<u32>,
    /// The contents, in order. A content may lack trailing zeros that belong to its block.
    pub(crate) blocks: Vec<Sha256Hash>,
    /// How much of the file each content stands for, but for the last.
    pub(crate) block_length: u64,
}

impl FileSpec {
    /// A file of 8 MiB blocks; their number must fit the size.
    pub(crate) fn in_blocks(
        path: &str,
        size: u64,
        mode: Option<u32>,
        blocks: Vec<Sha256Hash>,
    ) -> Result<Self> {
        if size.div_ceil(BLOCK) != blocks.len() as u64 {
            return Err(Error::invalid(format!(
                "file {path:?} of {size} bytes must have {} blocks, not {}",
                size.div_ceil(BLOCK),
                blocks.len()
            )));
        }
        let path = file_path(path)?;
        Ok(Self { path, size, mode, blocks, block_length: BLOCK })
    }

    /// A file that is one content as a whole.
    pub(crate) fn whole(
        path: &str,
        size: u64,
        mode: Option<u32>,
        hash: Sha256Hash,
    ) -> Result<Self> {
        let path = file_path(path)?;
        Ok(Self { path, size, mode, blocks: vec![hash], block_length: u64::MAX })
    }
}

fn file_path(path: &str) -> Result<VolumePath> {
    let parsed = VolumePath::parse(path)?;
    if parsed.names().is_empty() || path.ends_with('/') {
        return Err(Error::invalid(format!("{path:?} names a directory, not a file")));
    }
    Ok(parsed)
}

/// Refuses files that exist already. Blocks.
pub(crate) fn check_new(tree: &Tree, files: &[FileSpec]) -> Result<()> {
    for file in files {
        if tree.stat(&file.path)?.is_some() {
            return Err(Error::already_exists("file", &file.path));
        }
    }
    Ok(())
}

/// Where files of a volume are put together, and from what.
pub(super) struct Workshop<'a> {
    /// Beside the volume, on the same file system.
    pub(super) staging: &'a Path,
    pub(super) cas: &'a Cas,
    pub(super) known: &'a KnownBlocks,
}

/// Puts all files together beside the volume, then moves each to its place. Blocks.
pub(super) fn assemble(
    tree: &Tree,
    workshop: &Workshop<'_>,
    files: &[FileSpec],
    overwrite: bool,
) -> Result<()> {
    let staged = stage_all(workshop, files)?;
    let staging = workshop.staging;
    sync(staging, &staged)?;
    reach(Point::VolumeStaged);
    let mut parents = Parents { tree, last: None };
    for (file, staged) in files.iter().zip(staged) {
        let placed = place(&mut parents, file, staged, overwrite)?;
        workshop.known.settle(&placed);
        reach(Point::VolumePlaced);
    }
    Ok(())
}

/// The complete files, in order; many are put together by two threads, for it is the kernel's work.
fn stage_all(workshop: &Workshop<'_>, files: &[FileSpec]) -> Result<Vec<NamedTempFile>> {
    let stage_some = |files: &[FileSpec]| -> Result<Vec<NamedTempFile>> {
        files.iter().map(|file| stage(workshop, file)).collect()
    };
    if files.len() < SHARED {
        return stage_some(files);
    }
    let (left, right) = files.split_at(files.len() / 2);
    let (left, right) = std::thread::scope(|scope| {
        let left = scope.spawn(|| stage_some(left));
        let right = stage_some(right);
        (left.join(), right)
    });
    let mut staged = left.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    staged.extend(right?);
    Ok(staged)
}

/// The complete file, under a temporary name.
fn stage(workshop: &Workshop<'_>, spec: &FileSpec) -> Result<NamedTempFile> {
    let Workshop { staging, cas, known } = *workshop;
    let mut staged =
        NamedTempFile::new_in(staging).map_err(Error::file("create a file in", staging))?;
    let file = staged.as_file_mut();
    let mut end = 0;
    for (index, hash) in spec.blocks.iter().enumerate() {
        let start = spec.block_length.saturating_mul(index as u64);
        let room = spec.block_length.min(spec.size - start);
        end = start + copy_block(cas, hash, file, start, room)?;
    }
    let finish = |file: &File| {
        if end < spec.size {
            file.set_len(spec.size)?;
        }
        let mode = spec.mode.unwrap_or(DEFAULT_MODE) & MODE_MASK;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        if spec.block_length == BLOCK { known.remember(file, &spec.blocks) } else { Ok(()) }
    };
    finish(staged.as_file()).map_err(Error::file("write", staged.path()))?;
    Ok(staged)
}

/// Brings the files to the disk: a few one by one, many with all that their file system holds back.
fn sync(staging: &Path, staged: &[NamedTempFile]) -> Result<()> {
    if staged.len() > SYNCED_ONE_BY_ONE {
        let directory = File::open(staging).map_err(Error::file("open", staging))?;
        let synced = rustix::fs::syncfs(directory).map_err(io::Error::from);
        return synced.map_err(Error::file("sync", staging));
    }
    let sync =
        |file: &NamedTempFile| file.as_file().sync_data().map_err(Error::file("sync", file.path()));
    staged.iter().try_for_each(sync)
}

/// Answers how many bytes there are, of which zeros at the end may be missing.
fn copy_block(cas: &Cas, hash: &Sha256Hash, file: &mut File, start: u64, room: u64) -> Result<u64> {
    let fits = |length: u64| {
        let problem =
            || format!("block {hash} has {length} bytes, but its place in the file only {room}");
        if length > room { Err(Error::invalid(problem())) } else { Ok(()) }
    };
    if let Some(data) = cas.small_block(hash) {
        fits(data.len() as u64)?;
        let written = file.write_all_at(&data, start).map(|()| data.len() as u64);
        return written.map_err(Error::file("copy", cas.path_of(hash)));
    }
    let mut content = cas.open(hash)?;
    let length = content.metadata().map_err(Error::file("read", cas.path_of(hash)))?.len();
    fits(length)?;
    let copied = if length <= SMALL {
        copy_small(&mut content, length, file, start)
    } else {
        file.seek(SeekFrom::Start(start)).and_then(|_| io::copy(&mut content, file)).map(drop)
    };
    copied.map(|()| length).map_err(Error::file("copy", cas.path_of(hash)))
}

fn copy_small(content: &mut File, length: u64, file: &File, start: u64) -> io::Result<()> {
    let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
    content.read_exact(&mut data)?;
    file.write_all_at(&data, start)
}

/// The directories of files, made where they are missing. Files of one directory come one after the other.
struct Parents<'a> {
    tree: &'a Tree,
    last: Option<(&'a [String], OwnedFd)>,
}

impl<'a> Parents<'a> {
    fn directory(&mut self, names: &'a [String]) -> Result<&OwnedFd> {
        let last = match self.last.take() {
            Some(last) if last.0 == names => last,
            _ => (names, self.tree.make_directory(names)?),
        };
        Ok(&self.last.insert(last).1)
    }
}

fn place<'a>(
    parents: &mut Parents<'a>,
    spec: &'a FileSpec,
    staged: NamedTempFile,
    overwrite: bool,
) -> Result<File> {
    let Some((names, name)) = spec.path.split_last() else {
        return Err(Error::invalid("the root of a volume is no file"));
    };
    let tree = parents.tree;
    let parent = parents.directory(names)?;
    let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(rustix::fs::CWD, staged.path(), parent, name, flags) {
        Ok(()) => {
            let (file, name) = staged.into_parts();
            // It has no other name any more.
            let _ = name.keep();
            Ok(file)
        }
        // The file system knows no such renaming. A link fails too where the name is taken, and the temporary name goes
        // by itself.
        Err(Errno::INVAL | Errno::NOSYS) if !overwrite => {
            rustix::fs::linkat(rustix::fs::CWD, staged.path(), parent, name, AtFlags::empty())
                .map_err(|errno| tree.error(&spec.path, errno))?;
            let (file, temporary) = staged.into_parts();
            drop(temporary);
            Ok(file)
        }
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY)
            if overwrite && is_directory(parent, name) =>
        {
            Err(Error::Precondition(format!("`{}` is a directory", spec.path)))
        }
        Err(errno) => Err(tree.error(&spec.path, errno)),
    }
}

fn is_directory(parent: impl std::os::fd::AsFd, name: &str) -> bool {
    rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        tree: Tree,
        cas: Cas,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        for part in ["tree", "staging", "cas", "tmp"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let tree = Tree::open(&dir.path().join("tree")).unwrap();
        let cas = Cas::new(dir.path().join("cas"), dir.path().join("tmp"));
        Fixture { dir, tree, cas }
    }

    impl Fixture {
        fn put(&self, file: &FileSpec, overwrite: bool) -> Result<()> {
            let (staging, known) = (self.dir.path().join("staging"), KnownBlocks::default());
            let workshop = Workshop { staging: &staging, cas: &self.cas, known: &known };
            assemble(&self.tree, &workshop, std::slice::from_ref(file), overwrite)
        }
    }

    #[test]
    fn zeros_that_were_left_out_come_back() {
        let it = fixture();
        let head = it.cas.put_bytes(b"head").unwrap();
        let none = it.cas.put_bytes(b"").unwrap();
        let tail = it.cas.put_bytes(b"tail").unwrap();
        let size = 2 * BLOCK + 10;
        let file = FileSpec::in_blocks("/big", size, None, vec![head, none, tail]).unwrap();
        it.put(&file, true).unwrap();
        let data = fs::read(it.dir.path().join("tree/big")).unwrap();
        assert_eq!(data.len() as u64, size);
        assert_eq!(&data[..5], b"head\0");
        assert_eq!(&data[2 * BLOCK as usize..], b"tail\0\0\0\0\0\0");
    }

    #[test]
    fn an_existing_file_is_replaced_only_if_allowed() {
        let it = fixture();
        let (one, two) = (it.cas.put_bytes(b"one").unwrap(), it.cas.put_bytes(b"two").unwrap());
        let file = |hash| FileSpec::in_blocks("a/b", 3, Some(0o4_640), vec![hash]).unwrap();
        it.put(&file(one), false).unwrap();
        assert!(matches!(it.put(&file(two), false), Err(Error::AlreadyExists { .. })));
        assert!(check_new(&it.tree, &[file(two)]).is_err());
        let path = it.dir.path().join("tree/a/b");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        it.put(&file(two), true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(it.dir.path().join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn a_block_longer_than_its_place_is_refused() {
        let it = fixture();
        let hash = it.cas.put_bytes(b"too long").unwrap();
        let file = FileSpec::in_blocks("a", 3, None, vec![hash]).unwrap();
        it.put(&file, true).unwrap_err();
        FileSpec::in_blocks("a", 3, None, vec![]).unwrap_err();
        FileSpec::in_blocks("", 0, None, vec![]).unwrap_err();
        FileSpec::in_blocks("dir/", 0, None, vec![]).unwrap_err();
    }

    #[test]
    fn files_and_directories_do_not_take_each_others_place() {
        let it = fixture();
        let file = |path| FileSpec::in_blocks(path, 0, None, vec![]).unwrap();
        it.put(&file("a"), true).unwrap();
        assert!(matches!(it.put(&file("a/b"), true), Err(Error::Precondition(_))));
        it.put(&file("d/x"), true).unwrap();
        assert!(matches!(it.put(&file("d"), true), Err(Error::Precondition(_))));
    }

    #[test]
    fn an_upload_never_goes_through_a_link() {
        let it = fixture();
        std::os::unix::fs::symlink(it.dir.path(), it.dir.path().join("tree/out")).unwrap();
        let outside = it.dir.path().join("victim");
        fs::write(&outside, "safe").unwrap();
        std::os::unix::fs::symlink(&outside, it.dir.path().join("tree/file")).unwrap();
        let file = |path| FileSpec::in_blocks(path, 0, None, vec![]).unwrap();
        it.put(&file("out/x"), true).unwrap_err();
        it.put(&file("file"), true).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"safe");
        assert!(!it.dir.path().join("x").exists());
    }
}
