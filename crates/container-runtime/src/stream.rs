//! What a program wrote, kept so that readers can come late, come back, and come several at once.
//!
//! Each output descriptor of a process has one [`OutputLog`]. [`pump`] fills it from the pipe; readers ask for
//! it from any byte offset, while the process runs and after it ended. The log is bounded: output that nobody
//! reads never blocks the program for long and never fills the server's memory. What does not fit loses its
//! *middle*: the beginning tells what was started and the end tells how it went, so both are kept (see [`Caps`]).
//! Output that somebody does read is not cut: before anything is dropped, [`pump`] waits for the reader.
//!
//! Exit and end of file are different events. A program may leave a child behind that holds the pipe open, so
//! the caller reports the exit at once and [`pump`] ends the log at end of file or after [`DRAIN_SILENCE`]
//! without output, whichever comes first; it then reads on into nothing, so that the child gets no SIGPIPE.

mod log;
mod pump;
mod readers;
mod store;

pub use log::{Chunk, OutputLog, Reader};
pub use pump::{DRAIN_SILENCE, pump};
pub use store::Caps;
