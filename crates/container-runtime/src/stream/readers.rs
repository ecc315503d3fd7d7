//! Who reads a log, and how long its writer waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A reader that does not move for so long is not waited for until it moves again.
const STANDSTILL: Duration = Duration::from_secs(30);
/// For the first reader to come, and for one that left to come back.
const ABSENCE: Duration = Duration::from_secs(2);

/// The places of all readers of one log.
#[derive(Debug, Default)]
pub(super) struct Readers {
    places: Mutex<Places>,
    movements: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    present: HashMap<u64, Place>,
    /// Nobody came (back) while it was waited for.
    absence_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    stands_still: bool,
}

impl Readers {
    /// A new reader at `offset`, present until its ticket is dropped.
    pub(super) fn enter(self: &Arc<Self>, offset: u64) -> Ticket {
        let mut places = self.places();
        places.next += 1;
        let id = places.next;
        places.present.insert(id, Place { offset, stands_still: false });
        drop(places);
        self.movements.send_replace(());
        Ticket { readers: Arc::clone(self), id }
    }

    /// Tells when a reader came, moved or left.
    pub(super) fn movements(&self) -> watch::Receiver<()> {
        self.movements.subscribe()
    }

    /// How long to wait for the readers that have not read up to `needed`; `None` if there is nobody to wait for.
    pub(super) fn patience(&self, needed: u64) -> Option<Duration> {
        let places = self.places();
        if places.present.values().any(|place| place.offset < needed && !place.stands_still) {
            return Some(STANDSTILL);
        }
        (places.present.is_empty() && !places.absence_over).then_some(ABSENCE)
    }

    /// The wait was in vain.
    pub(super) fn give_up(&self, needed: u64) {
        let mut places = self.places();
        places.absence_over = true;
        for place in places.present.values_mut().filter(|place| place.offset < needed) {
            place.stands_still = true;
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader's presence.
#[derive(Debug)]
pub(super) struct Ticket {
    readers: Arc<Readers>,
    id: u64,
}

impl Ticket {
    pub(super) fn moved_to(&self, offset: u64) {
        self.readers.places().present.insert(self.id, Place { offset, stands_still: false });
        self.readers.movements.send_replace(());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut places = self.readers.places();
        places.present.remove(&self.id);
        places.absence_over = false;
        drop(places);
        self.readers.movements.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_reader_is_waited_for_until_it_stands_still() {
        let readers = Arc::new(Readers::default());
        assert_eq!(readers.patience(10), Some(ABSENCE));
        readers.give_up(10);
        assert_eq!(readers.patience(10), None, "nobody came");

        let (fast, slow) = (readers.enter(0), readers.enter(0));
        fast.moved_to(20);
        assert_eq!(readers.patience(10), Some(STANDSTILL));
        readers.give_up(10);
        assert_eq!(readers.patience(10), None);
        slow.moved_to(5);
        assert_eq!(readers.patience(10), Some(STANDSTILL), "it moves again");
        slow.moved_to(10);
        assert_eq!(readers.patience(10), None);
        drop((fast, slow));
        assert_eq!(readers.patience(10), Some(ABSENCE), "they may come back");
    }
}
