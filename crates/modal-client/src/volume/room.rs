//! Room on the disk for a file that is about to be written.
//!
//! A file system that is told of a file's size at once finds the room in one step, and not page by page while it is
//! written: a download takes a tenth less. All of this is for speed alone, so what fails is left.

use std::fs::File;

/// Files and runs of zeros below this size are not worth a call.
const WORTH: u64 = 1 << 20;

/// Reserves room for the whole file, which has this length.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, length: u64) {
    use rustix::fs::{FallocateFlags, fallocate};

    if length >= WORTH {
        // Where there is no room for it, its zeros may need none.
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, 0, length);
    }
}

/// Gives back the room of a part of the file that is zeros.
#[cfg(target_os = "linux")]
pub(super) fn give_back(file: &File, offset: u64, length: u64) {
    use rustix::fs::{FallocateFlags, fallocate};

    if length >= WORTH {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(file, flags, offset, length);
    }
}

/// Elsewhere the room is found while it is written.
#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_: &File, _: u64) {}

/// Nothing was reserved.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_back(_: &File, _: u64, _: u64) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * WORTH).unwrap();
        let blocks = || file.metadata().unwrap().blocks();
        reserve(&file, WORTH - 1);
        assert_eq!(blocks(), 0, "not worth it");
        reserve(&file, 2 * WORTH);
        let all = blocks();
        give_back(&file, WORTH, WORTH);
        // Not every file system knows how to do either.
        assert!(all == 0 || blocks() < all, "{all} blocks, then {}", blocks());
        assert_eq!(file.metadata().unwrap().len(), 2 * WORTH);
    }
}
