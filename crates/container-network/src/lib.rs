//! User-space network of a sandbox: outbound policy, DNS and address translation over a TUN device.
//!
//! A sandbox sees one network device, a TUN, and behind it a [`Gateway`] that runs in this process: it takes
//! the packets, asks the [`Policy`], and turns every permitted TCP connection and UDP exchange into an ordinary
//! socket of this machine. No veth pair, no NAT rule, no privilege beyond the TUN's file descriptor.
//!
//! ```text
//! program ─ kernel TCP/UDP ─ TUN ─▶ Gateway ─ Policy ─▶ Dialer ─▶ outside
//! 10.0.2.100          (sandbox's ns)   │
//!                                      └─ 10.0.2.3:53 ─▶ the resolvers of this machine
//! ```
//!
//! Invariants:
//! - Whatever the policy says, and but for what the dialer calls its own, nothing reaches loopback, an address of this
//!   machine, link-local and metadata addresses, multicast, or the sandboxes' own range: see [`policy`].
//! - With an allow-list of names, the gateway resolves only those, and only what *it* resolved may be dialled.
//! - A flow has bounded buffers; a slow reader on either side slows the other, never this process.
//! - No packet makes the gateway panic; a flow that failed takes only itself down.
//!
//! Why TCP by `smoltcp` with one interface per flow, and not one stack for all: a flow is then one task that
//! owns its state, the SYN can wait until the other side answered (so "refused" is seen as refused inside),
//! and the cost of a packet does not grow with the number of flows.

mod dialer;
mod dns;
mod error;
mod gateway;
mod machine;
mod packet;
pub mod plan;
pub mod policy;
mod relay;
mod tcp;
mod tls;
mod tun;
mod udp;

pub use dialer::{Dialer, HostDialer};
pub use error::{Error, Result};
pub use gateway::{Gateway, PolicyControl};
pub use ipnet::IpNet;
pub use policy::{DomainPattern, Policy, Transport};
pub use relay::relay;
