//! The archive of WAL: one compressed file for each that PostgreSQL hands over.
//!
//! PostgreSQL calls the commands `archive-wal` and `fetch-wal` of this program. A file is there whole or not at all,
//! and is never written over. A writer that has lost its lease puts nothing into it: the file `writer` beside it names
//! who may.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The file of the store that names who may write.
pub(super) const WRITER: &str = "writer";
/// The directory of the store with WAL.
pub(super) const WAL: &str = "wal";

/// Puts the file `from` into the archive of a store as `name`; `writer` must be who may.
///
/// # Errors
///
/// Another writer has taken over, another file of that name is there already, or the disk's own.
pub fn archive(store: &Path, writer: &str, from: &Path, name: &str) -> io::Result<()> {
    let current = fs::read_to_string(store.join(WRITER))?;
    if current.trim() != writer {
        return Err(io::Error::other("another server writes here now"));
    }
    let target = path(store, name)?;
    if target.exists() {
        // PostgreSQL asks again where the server ended before it took note of the answer.
        return if read(&target)? == fs::read(from)? {
            Ok(())
        } else {
            Err(io::Error::other(format!("`{name}` is archived already, with other content")))
        };
    }
    let directory = store.join(WAL);
    let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&directory)?;
    // Most of a file that was handed over early is zeros: the fastest level takes those.
    let mut encoder = GzEncoder::new(file, Compression::fast());
    io::copy(&mut File::open(from)?, &mut encoder)?;
    let file = encoder.finish()?;
    file.as_file().sync_all()?;
    // There is one writer, which asks for one file at a time: nothing came in between.
    file.persist(&target).map_err(|error| error.error)?;
    File::open(&directory)?.sync_all()
}

/// Copies the file `name` of a store's archive to `to`.
///
/// # Errors
///
/// There is none, which is how PostgreSQL learns where the archive ends.
pub fn fetch(store: &Path, name: &str, to: &Path) -> io::Result<()> {
    let mut decoder = GzDecoder::new(File::open(path(store, name)?)?);
    let mut file = File::create(to)?;
    io::copy(&mut decoder, &mut file)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    GzDecoder::new(File::open(path)?).read_to_end(&mut content)?;
    Ok(content)
}

fn path(store: &Path, name: &str) -> io::Result<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(io::Error::other(format!("`{name}` is no name of WAL")));
    }
    Ok(store.join(WAL).join(format!("{name}.gz")))
}

/// Removes segments older than `oldest`, a name of a segment, whatever their timeline. Histories stay.
pub(super) fn prune(store: &Path, oldest: &str) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(store.join(WAL))? {
        let entry = entry?;
        let name = entry.file_name();
        let position = name.to_str().filter(|name| !name.ends_with(".history.gz"));
        let position = position.and_then(|name| name.get(8..24));
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if position.is_some_and(|it| is_hex(it) && Some(it) < oldest.get(8..24)) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir(store.path().join(WAL)).unwrap();
        fs::write(store.path().join(WRITER), "me\n").unwrap();
        fs::write(store.path().join("one"), "content").unwrap();
        store
    }

    const SEGMENT: &str = "000000010000000000000002";

    #[test]
    fn what_is_archived_is_fetched_and_never_written_over() {
        let store = store();
        let (root, one) = (store.path(), store.path().join("one"));
        archive(root, "me", &one, SEGMENT).unwrap();
        archive(root, "me", &one, SEGMENT).unwrap();
        fs::write(&one, "other").unwrap();
        let error = archive(root, "me", &one, SEGMENT).unwrap_err();
        assert!(error.to_string().contains("with other content"), "{error}");
        let to = root.join("fetched");
        fetch(root, SEGMENT, &to).unwrap();
        assert_eq!(fs::read_to_string(to).unwrap(), "content");
        assert!(fetch(root, "000000010000000000000003", &root.join("none")).is_err());
        assert!(fetch(root, "../writer", &root.join("none")).is_err());
    }

    #[test]
    fn who_is_no_longer_the_writer_puts_nothing_there() {
        let store = store();
        fs::write(store.path().join(WRITER), "next\n").unwrap();
        let error = archive(store.path(), "me", &store.path().join("one"), SEGMENT).unwrap_err();
        assert_eq!(error.to_string(), "another server writes here now");
        assert_eq!(fs::read_dir(store.path().join(WAL)).unwrap().count(), 0);
    }

    #[test]
    fn old_segments_of_every_timeline_go_and_histories_stay() {
        let store = store();
        let names = [
            "000000010000000000000001.gz",
            "000000020000000000000003.gz",
            "000000010000000000000004.gz",
            "00000002.history.gz",
            "000000010000000000000002.00000028.backup.gz",
        ];
        for name in names {
            fs::write(store.path().join(WAL).join(name), "").unwrap();
        }
        assert_eq!(prune(store.path(), "000000020000000000000004").unwrap(), 3);
        let mut left: Vec<_> = fs::read_dir(store.path().join(WAL))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["000000010000000000000004.gz", "00000002.history.gz"]);
    }
}
