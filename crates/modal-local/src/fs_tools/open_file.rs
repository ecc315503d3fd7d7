//! `Open`, `ReadAt` and `WriteAt`: pieces of a file, for the file API that SDKs had before 1.6.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::command::{ReadAtOptions, WriteAtOptions};
use super::failure::Failure;
use super::read::require_regular;

/// Opens a file in one of Python's modes, makes or empties it, and closes it again.
pub(super) fn open(path: &Path, mode: &str) -> Result<(), Failure> {
    let has = |letter| mode.contains(letter);
    let writes = has('w') || has('a') || has('x') || has('+');
    let mut options = OpenOptions::new();
    options.read(has('r') || has('+')).write(writes);
    options.create(has('w') || has('a')).create_new(has('x'));
    // Emptied once it is known to be a regular file.
    let file = open_regular(options, path)?;
    if has('w') {
        file.set_len(0)?;
    }
    Ok(())
}

/// Bytes from an offset on, to stdout; or how many there are in all.
pub(super) fn read(options: &ReadAtOptions, stdout: &mut dyn Write) -> Result<(), Failure> {
    let mut file = open_regular(OpenOptions::new().read(true).to_owned(), &options.path)?;
    if options.size {
        return Ok(writeln!(stdout, "{}", file.metadata()?.len())?);
    }
    file.seek(SeekFrom::Start(options.offset))?;
    let mut rest = file.take(options.most);
    if options.line {
        let mut line = Vec::new();
        BufReader::new(rest).read_until(b'\n', &mut line)?;
        stdout.write_all(&line)?;
    } else {
        io::copy(&mut rest, stdout)?;
    }
    Ok(stdout.flush()?)
}

/// Stdin into the file, at an offset or its end; says where it ended.
pub(super) fn write(
    options: &WriteAtOptions,
    mut stdin: File,
    stdout: &mut dyn Write,
) -> Result<(), Failure> {
    let mut how = OpenOptions::new();
    how.write(true).append(options.offset.is_none());
    let mut file = open_regular(how, &options.path)?;
    if let Some(offset) = options.offset {
        file.seek(SeekFrom::Start(offset))?;
    }
    io::copy(&mut stdin, &mut file)?;
    Ok(writeln!(stdout, "{}", file.stream_position()?)?)
}

/// Devices and fifos are not opened: that may do things, or wait.
fn open_regular(mut options: OpenOptions, path: &Path) -> Result<File, Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) => require_regular(&metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    require_regular(&file.metadata()?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs_tools::failure::Kind;

    #[test]
    fn modes_are_pythons() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let kind = |result: Result<(), Failure>| result.err().map(|failure| failure.kind);
        assert_eq!(kind(open(&file, "r")), Some(Kind::NotFound));
        assert_eq!(kind(open(&file, "x")), None);
        assert_eq!(kind(open(&file, "xb")), Some(Kind::AlreadyExists));
        std::fs::write(&file, "kept").unwrap();
        for mode in ["r", "a", "r+"] {
            open(&file, mode).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), b"kept");
        }
        open(&file, "w").unwrap();
        assert!(std::fs::read(&file).unwrap().is_empty());
        assert_eq!(kind(open(dir.path(), "r")), Some(Kind::IsDirectory));
        assert_eq!(kind(open(Path::new("/dev/null"), "w")), Some(Kind::Io));
    }

    #[test]
    fn pieces_are_read_and_written_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let input = dir.path().join("input");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let at = |offset: u64, most: u64, line: bool| {
            let options = ReadAtOptions { path: path.clone(), offset, most, line, size: false };
            let mut out = Vec::new();
            read(&options, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            (at(0, 2, false), at(2, 100, true), at(4, 100, false)),
            ("on".into(), "e\n".into(), "two\n".into())
        );
        assert_eq!(at(99, 9, false), "");
        let put = |offset: Option<u64>, text: &str| {
            std::fs::write(&input, text).unwrap();
            let mut out = Vec::new();
            let options = WriteAtOptions { path: path.clone(), offset };
            write(&options, File::open(&input).unwrap(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(put(Some(4), "TWO"), "7\n");
        assert_eq!(put(None, "end"), "11\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nTWO\nend");
    }
}
