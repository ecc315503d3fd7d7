//! What the tests stand on: the real packages.

pub(crate) mod venv;
