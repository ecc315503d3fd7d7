//! How much the state directory may take in all, and how much it takes.
//!
//! Only a look at every file tells that, so a thread counts now and then, and only where there is a quota: soon after
//! the disk has become fuller or emptier, and each second while the directory takes too much.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::reserve::{InvalidAmount, bytes_from};
use super::{amount, usage};
use crate::state_dir::StateDir;

/// How often the disk's fill level is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Between two counts the disk may change by one part of the quota in so many.
const STEP: u64 = 32;
/// A count is made at least so often.
const COUNT: Duration = Duration::from_secs(60);

/// How much the state directory may take of its disk: no limit but the disk's unless chosen.
///
/// It parses from a number of bytes, or one with `KiB`, `MiB`, `GiB` or `TiB`; `0` is no quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskQuota(Option<u64>);

impl DiskQuota {
    /// In bytes.
    pub fn bytes(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for DiskQuota {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        bytes_from(text).map(|bytes| Self((bytes > 0).then_some(bytes)))
    }
}

impl fmt::Display for DiskQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.unwrap_or(0))
    }
}

/// What the directory takes, as it was counted last.
#[derive(Debug)]
pub(super) struct Meter {
    limit: u64,
    taken: AtomicU64,
}

impl Meter {
    /// Counts from now on, as long as somebody has it. The first count is made before it returns.
    pub(super) fn start(dir: &StateDir, quota: DiskQuota) -> Option<Arc<Self>> {
        let limit = quota.bytes()?;
        let meter = Arc::new(Self { limit, taken: AtomicU64::new(usage::count(dir).total()) });
        let (weak, dir) = (Arc::downgrade(&meter), dir.clone());
        std::thread::spawn(move || count_now_and_then(&weak, &dir));
        Some(meter)
    }

    /// That too much is taken, as a sentence.
    pub(super) fn excess(&self) -> Option<String> {
        let taken = self.taken.load(Ordering::Relaxed);
        (taken > self.limit).then(|| {
            let (taken, limit) = (amount(taken), amount(self.limit));
            format!("the state directory of the local server is full: it takes {taken}, and its quota is {limit}")
        })
    }
}

fn count_now_and_then(meter: &Weak<Meter>, dir: &StateDir) {
    let (mut counted_at, mut level) = (Instant::now(), level(dir));
    loop {
        std::thread::sleep(LOOK);
        let Some(meter) = meter.upgrade() else { return };
        let now = self::level(dir);
        let has_changed = now.abs_diff(level) > meter.limit / STEP;
        if has_changed || counted_at.elapsed() > COUNT || meter.excess().is_some() {
            meter.taken.store(usage::count(dir).total(), Ordering::Relaxed);
            (counted_at, level) = (Instant::now(), now);
        }
    }
}

/// Bytes that are taken of the whole disk; cheap to know.
fn level(dir: &StateDir) -> u64 {
    let found = rustix::fs::statvfs(dir.root());
    found.map_or(0, |it| it.f_blocks.saturating_sub(it.f_bfree) * it.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_quota_is_told_until_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        dir.create().unwrap();
        assert!(Meter::start(&dir, "0".parse().unwrap()).is_none());
        let meter = Meter::start(&dir, "3MiB".parse().unwrap()).unwrap();
        assert_eq!(meter.excess(), None);
        let eventually = |is_over: bool| {
            let until = Instant::now() + Duration::from_secs(120);
            while meter.excess().is_some() != is_over {
                assert!(Instant::now() < until, "{:?}", meter.excess());
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        std::fs::write(dir.cas().join("content"), vec![1; 4 << 20]).unwrap();
        eventually(true);
        let said = meter.excess().unwrap();
        assert!(said.contains("4 MiB") && said.contains("3 MiB"), "{said}");
        std::fs::remove_file(dir.cas().join("content")).unwrap();
        eventually(false);
    }
}
