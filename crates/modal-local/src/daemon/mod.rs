//! The server as a background process: one a state directory, found by its `server.json`.
//!
//! Who runs is decided by a lock that dies with its holder, so nothing is left to clean up after a
//! crash. [`ensure_running`] is what commands call: it finds the server or starts one, and answers
//! only when it serves.

mod collect;
mod failpoint;
mod foreground;
mod log;
mod probe;
mod record;
mod start;
mod status;
mod stop;
mod sweep;

pub use self::collect::collect;
pub use self::failpoint::order_end;
pub use self::foreground::{ServeOptions, serve};
pub use self::record::ServerHandle;
pub use self::start::ensure_running;
pub use self::status::{ServerStatus, status, usage};
pub use self::stop::stop;
