//! `Stat` and `ListFiles`.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::failure::Failure;
use super::users::Names;

/// What the SDKs make a `FileInfo` of.
///
/// `mode` and `permissions`: Modal's end-to-end test of its JavaScript SDK (`js/test/sandbox_fs_e2e.test.ts` of
/// `modal-labs/modal-client`) compares them with `stat`'s `%f` and `%a`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct FileInfo {
    name: String,
    path: String,
    r#type: &'static str,
    size: u64,
    mode: u32,
    permissions: String,
    owner: String,
    group: String,
    modified_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink_target: Option<String>,
}

pub(super) fn stat(path: &Path, stdout: &mut dyn Write) -> Result<(), Failure> {
    let info = FileInfo::of(path, &fs::symlink_metadata(path)?, &Names::read());
    let json = serde_json::to_string(&info).map_err(io::Error::from)?;
    Ok(writeln!(stdout, "{json}")?)
}

/// Entries in the order of their names. One that vanishes while the list is made is left out.
pub(super) fn list_files(path: &Path, stdout: &mut dyn Write) -> Result<(), Failure> {
    let mut entries = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<OsString>>>()?;
    entries.sort();
    let names = Names::read();
    let mut output = BufWriter::new(stdout);
    let mut separator = "";
    output.write_all(b"[")?;
    for entry in entries {
        let entry = path.join(entry);
        let Ok(metadata) = fs::symlink_metadata(&entry) else { continue };
        output.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut output, &FileInfo::of(&entry, &metadata, &names))
            .map_err(io::Error::from)?;
        separator = ", ";
    }
    output.write_all(b"]\n")?;
    Ok(output.flush()?)
}

impl FileInfo {
    fn of(path: &Path, metadata: &Metadata, names: &Names) -> Self {
        let target = metadata.is_symlink().then(|| fs::read_link(path).ok()).flatten();
        Self {
            name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            path: path.to_string_lossy().into_owned(),
            r#type: kind(metadata),
            size: metadata.size(),
            mode: metadata.mode(),
            permissions: permissions(metadata.mode()),
            owner: names.user(metadata.uid()),
            group: names.group(metadata.gid()),
            modified_time: metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9,
            symlink_target: target.map(|target| target.to_string_lossy().into_owned()),
        }
    }
}

/// The SDKs know three types and fail on others, so whatever else there is counts as a file.
fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_symlink() {
        "symlink"
    } else if metadata.is_dir() {
        "directory"
    } else {
        "file"
    }
}

/// Four octal digits, such as `0644`.
fn permissions(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}
