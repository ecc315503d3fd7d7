//! `ReadFile`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::failure::{Failure, Kind};

/// The most that is read. Modal's own limit is not documented; this one keeps endless files from filling the
/// caller's disk.
pub(crate) const LARGEST: u64 = 5 << 30;
const CHUNK: usize = 256 << 10;

pub(super) fn read_file(path: &Path, stdout: &mut dyn Write) -> Result<(), Failure> {
    let mut file = open_regular(path)?;
    if file.metadata()?.len() > LARGEST {
        return Err(too_large());
    }
    copy(&mut file, stdout, LARGEST)
}

/// Opens what is a regular file, now and when it was looked at: opening a device may do things, and opening a
/// fifo waits for the other side.
fn open_regular(path: &Path) -> Result<File, Failure> {
    require_regular(&fs::metadata(path)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    require_regular(&file.metadata()?)?;
    Ok(file)
}

/// Refuses directories, fifos, sockets and devices.
pub(super) fn require_regular(metadata: &fs::Metadata) -> Result<(), Failure> {
    if metadata.is_dir() {
        return Err(Failure::new(Kind::IsDirectory, "Is a directory", ""));
    }
    if !metadata.is_file() {
        return Err(Failure::new(
            Kind::Io,
            "Not a regular file",
            format!("{:?}", metadata.file_type()),
        ));
    }
    Ok(())
}

fn copy(file: &mut File, stdout: &mut dyn Write, limit: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut left = limit;
    loop {
        let size = match file.read(&mut buffer) {
            Ok(0) => return Ok(stdout.flush()?),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        left = left.checked_sub(size as u64).ok_or_else(too_large)?;
        stdout.write_all(&buffer[..size])?;
    }
}

fn too_large() -> Failure {
    Failure::new(Kind::FileTooLarge, "File too large", format!("limit: {LARGEST} bytes"))
}
