//! Which names the gateway resolved to which addresses, and until when that counts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Shorter times to live would cut off programs that resolve once and connect a moment later.
const SHORTEST: Duration = Duration::from_secs(60);
/// Longer ones would let an address stay open long after it went to somebody else.
const LONGEST: Duration = Duration::from_secs(3600);
/// More than any honest program resolves; a wildcard's owner could otherwise fill memory.
const ADDRESSES: usize = 4096;
const NAMES_PER_ADDRESS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct ResolvedNames {
    by_address: HashMap<IpAddr, Vec<Resolved>>,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    until: Instant,
}

impl ResolvedNames {
    /// Notes that `name` resolved to `address`. When full, what expired is forgotten, then the new is not noted.
    pub(crate) fn learn(
        &mut self,
        name: &str,
        address: IpAddr,
        time_to_live: Duration,
        now: Instant,
    ) {
        let until = now + time_to_live.clamp(SHORTEST, LONGEST);
        if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&address) {
            self.forget_expired(now);
            if self.by_address.len() >= ADDRESSES {
                return;
            }
        }
        let names = self.by_address.entry(address.to_canonical()).or_default();
        names.retain(|known| known.until > now && known.name != name);
        if names.len() < NAMES_PER_ADDRESS {
            names.push(Resolved { name: name.to_owned(), until });
        }
    }

    /// The names that lead to `address` now.
    pub(crate) fn of(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &str> {
        let names = self.by_address.get(&address).into_iter().flatten();
        names.filter(move |known| known.until > now).map(|known| known.name.as_str())
    }

    fn forget_expired(&mut self, now: Instant) {
        self.by_address.retain(|_, names| {
            names.retain(|known| known.until > now);
            !names.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_bounded_on_both_sides() {
        let (mut names, now) = (ResolvedNames::default(), Instant::now());
        let [short, long]: [IpAddr; 2] =
            ["198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap()];
        names.learn("a", short, Duration::ZERO, now);
        names.learn("b", long, Duration::from_secs(1 << 30), now);
        let at = |address, seconds| names.of(address, now + Duration::from_secs(seconds)).count();
        assert_eq!((at(short, 59), at(short, 61)), (1, 0));
        assert_eq!((at(long, 3599), at(long, 3601)), (1, 0));
    }

    #[test]
    fn memory_is_bounded_and_expired_entries_make_room() {
        let (mut names, now) = (ResolvedNames::default(), Instant::now());
        let address = |index: usize| IpAddr::from((index as u32).to_be_bytes());
        for index in 0..ADDRESSES + 10 {
            names.learn("x", address(index), SHORTEST, now);
        }
        assert_eq!(names.by_address.len(), ADDRESSES);
        names.learn("y", address(ADDRESSES + 11), SHORTEST, now + Duration::from_secs(61));
        assert_eq!(names.by_address.len(), 1);
        for index in 0..100 {
            names.learn(&format!("n{index}"), address(1), SHORTEST, now);
        }
        assert_eq!(names.of(address(1), now).count(), NAMES_PER_ADDRESS);
    }
}
