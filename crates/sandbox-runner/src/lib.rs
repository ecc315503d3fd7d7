//! Tasks to sandboxes to results: concurrency, retries, cancellation, verification.
