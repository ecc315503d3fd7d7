//! `mount_setattr`, which rustix lacks.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use super::check;

/// Changes a detached mount: `flags` are added, ids are shown through `idmap`'s mapping.
pub(crate) fn mount_setattr(
    tree: impl AsFd,
    flags: u64,
    idmap: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: flags | if idmap.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: 0,
        userns_fd: idmap.map_or(0, |fd| fd.as_raw_fd().unsigned_abs().into()),
    };
    // SAFETY: the path is a NUL-terminated empty string, the structure lives through the call and has the size named.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}
