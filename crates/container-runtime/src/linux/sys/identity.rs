//! User and group ids, capabilities, limits of one process.

use std::io;
use std::ptr;

use super::check;

/// The ids used for files only; see `child::layers` for why.
pub(crate) fn set_file_ids(uid: u32, gid: u32) {
    // SAFETY: no memory is involved; the calls return the old id and cannot fail otherwise.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

/// Keeps capabilities across changes of ids (`SECBIT_NO_SETUID_FIXUP`), or not.
pub(crate) fn keep_capabilities(keep: bool) -> io::Result<()> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    let bits = if keep { SECBIT_NO_SETUID_FIXUP } else { 0 };
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }.into())?;
    Ok(())
}

/// No supplementary groups.
pub(crate) fn drop_groups() -> io::Result<()> {
    // SAFETY: a length of zero reads no memory.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) })?;
    Ok(())
}

/// Real, effective and saved ids.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no memory is involved; the raw calls change this thread, the only one.
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Removes every capability not in `kept` (a bit set) from the bounding set.
pub(crate) fn bound_capabilities(kept: u64) -> io::Result<()> {
    for capability in 0..64u64 {
        if kept & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: no memory is involved.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            // Above the kernel's last capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Permitted and effective become `kept`, inheritable and ambient empty.
pub(crate) fn set_capabilities(kept: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data have the layout of version 3 (two sets of three words) and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Ok(())
}

/// A limit of this process: `soft`, and `hard` unless the one in force is lower already.
pub(crate) fn limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives both calls.
    unsafe {
        check(libc::getrlimit(resource as _, &raw mut now).into())?;
        let hard = hard.min(now.rlim_max);
        let wanted = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
        check(libc::setrlimit(resource as _, &raw const wanted).into())?;
    }
    Ok(())
}
