//! What the tests stand on: the real packages, real proxies, and the servers that they talk to.

pub(crate) mod proxy;
pub(crate) mod upstream;
pub(crate) mod venv;
