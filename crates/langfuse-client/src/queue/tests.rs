use std::sync::Mutex;

use tokio::sync::Notify;

use super::*;

/// Remembers the batches; waits for permission where it has a gate.
#[derive(Default)]
struct Recorder {
    batches: Mutex<Vec<Vec<String>>>,
    gate: Option<Notify>,
}

struct Shared(Arc<Recorder>);

impl Deliver for Shared {
    async fn deliver(&self, batch: Vec<Entry>, tally: &Tally) {
        if let Some(gate) = &self.0.gate {
            gate.notified().await;
        }
        tally.delivered(batch.len());
        self.0.batches.lock().unwrap().push(batch.into_iter().map(|entry| entry.id).collect());
    }
}

fn entry(id: usize, bytes: usize) -> Entry {
    Entry::new(id.to_string(), vec![b'x'; bytes].into())
}

fn sizes(recorder: &Recorder) -> Vec<usize> {
    recorder.batches.lock().unwrap().iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn batches_end_by_number_by_size_and_by_time() {
    let recorder = Arc::new(Recorder::default());
    let config = QueueConfig { batch_events: 3, batch_bytes: 1_000, ..QueueConfig::default() };
    let queue = Queue::start(&config, Shared(Arc::clone(&recorder)));
    for id in 0..4 {
        queue.push(entry(id, 10)).await.unwrap();
    }
    tokio::time::sleep(config.linger * 2).await;
    assert_eq!(sizes(&recorder), [3, 1]);
    queue.push(entry(4, 600)).await.unwrap();
    queue.push(entry(5, 600)).await.unwrap();
    let report = queue.flush().await;
    assert_eq!(sizes(&recorder), [3, 1, 1, 1]);
    assert_eq!((report.taken, report.delivered, report.pending), (6, 6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_then_waits() {
    let recorder = Arc::new(Recorder { gate: Some(Notify::new()), ..Recorder::default() });
    let config = QueueConfig { events: 2, batch_events: 1, ..QueueConfig::default() };
    let queue = Queue::start(&config, Shared(Arc::clone(&recorder)));
    queue.push(entry(0, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    queue.try_push(entry(1, 1)).unwrap();
    queue.try_push(entry(2, 1)).unwrap();
    assert!(matches!(queue.try_push(entry(3, 1)), Err(Error::QueueFull)));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push(entry(4, 1)).await }
    });
    recorder.gate.as_ref().unwrap().notify_one();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too() {
    let recorder = Arc::new(Recorder { gate: Some(Notify::new()), ..Recorder::default() });
    let config = QueueConfig { bytes: 1_024, ..QueueConfig::default() };
    let queue = Queue::start(&config, Shared(recorder));
    queue.try_push(entry(0, 1_000)).unwrap();
    assert!(matches!(queue.try_push(entry(1, 1_000)), Err(Error::QueueFull)));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_delivers_the_rest_and_refuses_what_comes_later() {
    let recorder = Arc::new(Recorder::default());
    let queue = Queue::start(&QueueConfig::default(), Shared(Arc::clone(&recorder)));
    queue.push(entry(0, 1)).await.unwrap();
    let report = queue.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.delivered, report.pending), (1, 0));
    assert!(matches!(queue.push(entry(1, 1)).await, Err(Error::QueueClosed)));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_takes_too_long_says_what_is_lost() {
    let recorder = Arc::new(Recorder { gate: Some(Notify::new()), ..Recorder::default() });
    let queue = Queue::start(&QueueConfig::default(), Shared(recorder));
    queue.push(entry(0, 1)).await.unwrap();
    let report = queue.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.delivered, report.pending), (0, 1));
}
