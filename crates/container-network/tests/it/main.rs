//! The gateway under real packets: kernel sockets in a network namespace of their own, through a TUN device.
//!
//! Needs root for the namespace and the device; without it the tests fail and say so
//! (`unshare -rn cargo nextest run -p container-network` works too where `/dev/net/tun` may be opened).
//! Destinations are documentation addresses that the test's dialer leads to servers on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod hostile;
mod names;
mod support;
mod tcp;
mod udp;
