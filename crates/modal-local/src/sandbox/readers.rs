//! Who reads a program's output at the moment, so that its end is told after its last words.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long an end is held back for readers that do not take what is there.
const PATIENCE: Duration = Duration::from_millis(200);

/// Counts readers. Clones count together.
#[derive(Clone)]
pub(crate) struct Readers(Arc<watch::Sender<usize>>);

/// A reader; one less when it is dropped.
pub(crate) struct Reading(Readers);

impl Readers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// One more.
    pub(crate) fn begin(&self) -> Reading {
        self.0.send_modify(|count| *count += 1);
        Reading(self.clone())
    }

    /// Waits until nobody reads any more; not long.
    ///
    /// Modal's SDK prints the output of `modal container exec` in the background and leaves when it hears of the end.
    pub(crate) async fn done(&self) {
        let mut count = self.0.subscribe();
        let none = count.wait_for(|count| *count == 0);
        // Whoever takes longer loses nothing: output stays readable after the end.
        let _ = tokio::time::timeout(PATIENCE, none).await;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_end_waits_for_readers_and_not_for_ever() {
        let readers = Readers::new();
        let started = tokio::time::Instant::now();
        readers.done().await;
        assert_eq!(started.elapsed(), Duration::ZERO, "nobody reads");
        let reading = readers.begin();
        let (waits, ()) = tokio::join!(
            async {
                readers.done().await;
                started.elapsed()
            },
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(reading);
            }
        );
        assert_eq!(waits, Duration::from_millis(20));
        let _slow = readers.begin();
        readers.done().await;
        assert_eq!(started.elapsed(), Duration::from_millis(20) + PATIENCE);
    }
}
