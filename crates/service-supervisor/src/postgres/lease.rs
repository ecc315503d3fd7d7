//! At most one writer: a lease in a register that all containers see.
//!
//! The register needs nothing but "put if absent", which a Modal Dict has. Each holder has an epoch of its own: who
//! wants the lease waits until the newest epoch's holder has left or was not heard of for a while, and then puts the
//! next epoch, which only one can. Clocks are never compared: a heartbeat counts as old when it did not change for as
//! long as the watcher itself has watched. A holder that can't renew stops before others may believe that it is dead.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng as _;
use tokio::time::Instant;

/// What a register may fail with.
pub type RegisterError = Box<dyn std::error::Error + Send + Sync>;

/// Small values by name, seen alike by every container.
pub trait Register: Send + Sync {
    /// Puts a value unless there is one, and answers whether it did: of several at once exactly one does.
    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
    ) -> BoxFuture<'a, Result<bool, RegisterError>>;
    /// Puts a value over any other.
    fn put<'a>(&'a self, key: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), RegisterError>>;
    /// The value.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, RegisterError>>;
}

/// Opens the register of that name. What fails, fails at its first use.
pub type OpenRegister = fn(&str) -> Arc<dyn Register>;

/// What a heartbeat says when the holder has left.
const RELEASED: &str = "released";
/// A hint at the newest epoch, so that nobody has to count from 1.
const NEWEST: &str = "newest";
/// After so many renewals, whatever else tells of the epoch is used too: an entry of a Dict that nobody uses for seven
/// days is gone (documentation of `modal.Dict`, 1.6.4), and with it who holds the lease.
const BEATS_BETWEEN_USES: u64 = 100;

/// A lease that is held.
pub(super) struct Lease {
    register: Arc<dyn Register>,
    holder: String,
    epoch: u64,
    expires: Duration,
}

/// A random name of this process's turn.
pub(super) fn new_holder() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

impl Lease {
    /// Waits until the lease is ours; `None` when that took longer than `wait`.
    pub(super) async fn acquire(
        register: Arc<dyn Register>,
        holder: &str,
        expires: Duration,
        wait: Duration,
    ) -> Result<Option<Self>, RegisterError> {
        let deadline = Instant::now() + wait;
        let mut epoch = newest(&*register).await?;
        loop {
            if epoch > 0 && !is_over(&*register, epoch, expires, deadline).await? {
                return Ok(None);
            }
            if take(&*register, epoch + 1, holder).await? {
                let lease = Self { register, holder: holder.to_owned(), epoch: epoch + 1, expires };
                lease.renew(0).await?;
                lease.register.put(NEWEST, &lease.epoch.to_string()).await?;
                return Ok(Some(lease));
            }
            // Another was faster: its turn must be over first.
            epoch += 1;
        }
    }

    /// Renews until that fails for too long; answers why. Cancel by dropping.
    pub(super) async fn keep(&self) -> String {
        // Others wait for the whole time: two thirds of it are ours, the rest is for stopping.
        let limit = self.expires.mul_f64(0.66);
        let mut renewed = Instant::now();
        // What a process says that stood still: nothing that it does now may count.
        let mut why = "it was not renewed in time".to_owned();
        let mut beat = 1;
        loop {
            tokio::time::sleep(self.expires / 6).await;
            let began = Instant::now();
            let left = (renewed + limit).saturating_duration_since(began);
            if left.is_zero() {
                return why;
            }
            match tokio::time::timeout(left, self.renew_unless_over(beat)).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return "another has taken it".to_owned(),
                Ok(Err(error)) => why = crate::error::chain(&*error),
                Err(_) => return "the register does not answer".to_owned(),
            }
            beat += 1;
        }
    }

    /// Lets the next one go on at once.
    pub(super) async fn release(&self) -> Result<(), RegisterError> {
        self.register.put(&self.beat_key(), RELEASED).await
    }

    /// Its number: each holder's is greater than the ones before.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Renews, and answers whether there is nobody after us yet.
    async fn renew_unless_over(&self, beat: u64) -> Result<bool, RegisterError> {
        self.renew(beat).await?;
        if beat.is_multiple_of(BEATS_BETWEEN_USES) {
            if !take(&*self.register, self.epoch, &self.holder).await? {
                return Ok(false);
            }
            self.register.put(NEWEST, &self.epoch.to_string()).await?;
        }
        Ok(self.register.get(&epoch_key(self.epoch + 1)).await?.is_none())
    }

    async fn renew(&self, beat: u64) -> Result<(), RegisterError> {
        self.register.put(&self.beat_key(), &beat.to_string()).await
    }

    fn beat_key(&self) -> String {
        format!("beat-{}", self.epoch)
    }
}

/// Puts a holder's name to an epoch; answers whether it is there. Names are the holder's own, so that one that is there
/// already was put by a call whose answer was lost.
async fn take(register: &dyn Register, epoch: u64, holder: &str) -> Result<bool, RegisterError> {
    let key = epoch_key(epoch);
    Ok(register.put_if_absent(&key, holder).await?
        || register.get(&key).await?.as_deref() == Some(holder))
}

fn epoch_key(epoch: u64) -> String {
    format!("epoch-{epoch}")
}

/// The newest epoch there is; 0 where there is none.
async fn newest(register: &dyn Register) -> Result<u64, RegisterError> {
    let hint = register.get(NEWEST).await?.and_then(|text| text.parse().ok());
    let mut epoch = hint.unwrap_or(0);
    while register.get(&epoch_key(epoch + 1)).await?.is_some() {
        epoch += 1;
    }
    Ok(epoch)
}

/// Watches an epoch until its holder has left or was silent for long enough.
async fn is_over(
    register: &dyn Register,
    epoch: u64,
    expires: Duration,
    deadline: Instant,
) -> Result<bool, RegisterError> {
    let key = format!("beat-{epoch}");
    let mut seen = register.get(&key).await?;
    let mut since = Instant::now();
    while seen.as_deref() != Some(RELEASED) {
        if since.elapsed() >= expires {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(expires / 10).await;
        let now = register.get(&key).await?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::register::Directory;

    const EXPIRES: Duration = Duration::from_secs(30);
    const WAIT: Duration = Duration::from_secs(300);

    async fn acquire(register: &Arc<dyn Register>, wait: Duration) -> Option<Lease> {
        Lease::acquire(Arc::clone(register), &new_holder(), EXPIRES, wait).await.unwrap()
    }

    fn register() -> (tempfile::TempDir, Arc<dyn Register>) {
        let directory = tempfile::tempdir().unwrap();
        let register = Directory::open(directory.path().join("lease")).unwrap();
        (directory, Arc::new(register))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_holder_loses_it_and_a_beating_one_keeps_it() {
        let (_directory, register) = register();
        let first = acquire(&register, WAIT).await.unwrap();
        {
            let beating = first.keep();
            tokio::pin!(beating);
            tokio::select! {
                why = &mut beating => panic!("it was lost: {why}"),
                second = acquire(&register, WAIT) => assert!(second.is_none()),
            }
        }
        let began = Instant::now();
        let second = acquire(&register, WAIT).await.unwrap();
        assert!(began.elapsed() >= EXPIRES);
        assert_eq!((first.epoch(), second.epoch()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_stood_still_does_not_go_on() {
        let (_directory, register) = register();
        let first = acquire(&register, WAIT).await.unwrap();
        let keeping = first.keep();
        tokio::pin!(keeping);
        assert!(futures::poll!(&mut keeping).is_pending());
        let second = acquire(&register, WAIT).await.unwrap();
        assert_eq!(keeping.await, "it was not renewed in time");
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_free_at_once() {
        let (_directory, register) = register();
        acquire(&register, WAIT).await.unwrap().release().await.unwrap();
        let began = Instant::now();
        assert_eq!(acquire(&register, Duration::ZERO).await.unwrap().epoch(), 2);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_wait_one_gets_it() {
        let (_directory, register) = register();
        // Who is silent from the start.
        acquire(&register, WAIT).await.unwrap();
        let short = EXPIRES.mul_f64(1.5);
        let waiting = (0..8).map(|_| acquire(&register, short));
        let leases = futures::future::join_all(waiting).await;
        assert_eq!(leases.iter().flatten().count(), 1);
    }

    /// A register that stops to work.
    struct Breaking(Directory, std::sync::atomic::AtomicBool);

    impl Register for Breaking {
        fn put_if_absent<'a>(
            &'a self,
            key: &'a str,
            value: &'a str,
        ) -> BoxFuture<'a, Result<bool, RegisterError>> {
            self.0.put_if_absent(key, value)
        }

        fn put<'a>(
            &'a self,
            key: &'a str,
            value: &'a str,
        ) -> BoxFuture<'a, Result<(), RegisterError>> {
            if self.1.load(std::sync::atomic::Ordering::Relaxed) {
                return Box::pin(async { Err("broken".into()) });
            }
            self.0.put(key, value)
        }

        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, RegisterError>> {
            self.0.get(key)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_renew_gives_up_before_others_may_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let inner = Directory::open(directory.path().join("lease")).unwrap();
        let breaking = Arc::new(Breaking(inner, false.into()));
        let register: Arc<dyn Register> = Arc::clone(&breaking) as _;
        let lease = acquire(&register, WAIT).await.unwrap();
        breaking.1.store(true, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        assert_eq!(lease.keep().await, "broken");
        assert!(began.elapsed() < EXPIRES, "{:?}", began.elapsed());
    }
}
