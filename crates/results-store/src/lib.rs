//! Runs, trials, attempts and artifacts of evaluations: rows in SQLite, files in an object store.
