//! Ranges of user ids, one for each live container.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// First id given to containers, far from those of people and of `/etc/subuid`.
const FIRST: u32 = 1_000_000_000;
/// Ids in a range.
const SIZE: u32 = 65_536;
/// Ranges below 2³¹, above which some programs read ids as negative.
const COUNT: u32 = ((1 << 31) - FIRST) / SIZE;

/// Hands out ranges that no other live container of this instance has.
///
/// The search starts at a random place, so that two instances on one machine rarely share a range; sharing one
/// is no hole, since every container has its own pid and IPC namespaces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges(Arc<Mutex<HashSet<u32>>>);

impl Ranges {
    /// A free range; `None` when all are taken.
    pub(crate) fn take(&self) -> Option<Range> {
        let mut random = [0; 4];
        // Without randomness the search merely starts at the first.
        let start = getrandom::fill(&mut random).map_or(0, |()| u32::from_le_bytes(random) % COUNT);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (0..COUNT).map(|n| (start + n) % COUNT).find(|slot| !taken.contains(slot))?;
        taken.insert(slot);
        drop(taken);
        Some(Range { slot, owner: self.clone() })
    }
}

/// A range, free again when dropped.
#[derive(Debug)]
pub(crate) struct Range {
    slot: u32,
    owner: Ranges,
}

impl Range {
    /// What root inside is outside.
    pub(crate) fn base(&self) -> u32 {
        FIRST + self.slot * SIZE
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.owner.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_containers_never_share_ids() {
        let ranges = Ranges::default();
        let held: Vec<Range> = (0..200).filter_map(|_| ranges.take()).collect();
        let bases: HashSet<u32> = held.iter().map(Range::base).collect();
        assert_eq!(bases.len(), 200);
        assert!(bases.iter().all(|base| *base >= FIRST && *base < (1 << 31) - SIZE + 1));
        drop(held);
        assert!(ranges.0.lock().unwrap().is_empty());
    }
}
