//! What can go wrong while a gateway is set up. A running gateway answers the sandbox, it does not fail.

use std::io;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a gateway or a policy could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file descriptor is not a TUN device that can be polled.
    #[error("cannot use the file descriptor as a TUN device")]
    Device(#[source] io::Error),
    /// The tables that tell this machine's own addresses could not be read, so they could not be denied.
    #[error("cannot read `{path}`, which tells which addresses are this machine's own")]
    OwnAddresses {
        /// The table.
        path: &'static str,
        /// Why it could not be read.
        source: io::Error,
    },
    /// Not an address range such as `203.0.113.0/24`.
    #[error("`{text}` is not an address range; write it like `203.0.113.0/24`")]
    Cidr {
        /// What was given.
        text: String,
    },
    /// Not a domain name, `*.` and a domain name, or `*`.
    #[error("`{text}` is not a domain; write `example.com`, `*.example.com` or `*`")]
    Domain {
        /// What was given.
        text: String,
    },
}
