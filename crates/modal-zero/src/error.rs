//! Why a measurement of nothing failed all the same.

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why serving or calling failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener has no address, or the server ended.
    #[error("the server of no work can't serve")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection to that address.
    #[error("can't connect to `{url}`")]
    Connect {
        /// Where to.
        url: String,
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call failed; its status is the source.
    #[error("rpc `{rpc}` failed")]
    Rpc {
        /// Its name.
        rpc: &'static str,
        /// What the server said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A command of a server that does no work ended otherwise than with code 0.
    #[error("the command did not end with code 0")]
    Code,
}
