//! How far a transfer is, told to whoever asked.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How far an upload or a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Files in all.
    pub files: u64,
    /// Files whose every byte is at its destination.
    pub files_done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that are at their destination, those that were there before included.
    pub bytes_done: u64,
}

type Callback = dyn Fn(Progress) + Send + Sync;

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Callback>>);

impl Listener {
    pub(super) fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener(set)" } else { "Listener(none)" })
    }
}

/// The state of a transfer; every change is told.
#[derive(Debug)]
pub(super) struct Tracker {
    listener: Listener,
    now: Mutex<Progress>,
}

impl Tracker {
    pub(super) fn new(listener: Listener, files: u64, bytes: u64) -> Self {
        let now = Progress { files, bytes, ..Progress::default() };
        if let Some(callback) = &listener.0 {
            callback(now);
        }
        Self { listener, now: Mutex::new(now) }
    }

    pub(super) fn add(&self, files: u64, bytes: u64) {
        let now = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            now.files_done += files;
            now.bytes_done += bytes;
            *now
        };
        if let Some(callback) = &self.listener.0 {
            callback(now);
        }
    }
}
