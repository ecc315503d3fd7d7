//! Isolated processes on this Linux machine: namespaces, overlay root, limits, exec, streams.
pub mod stream;
