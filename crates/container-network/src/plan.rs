//! The addresses every sandbox sees. They are the same in each: sandboxes never meet.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The sandbox itself.
pub const SANDBOX: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Its default route. Nothing listens there.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Its resolver: port 53, UDP and TCP.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The network they lie in; never dialled outside.
pub const RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24);
/// Where containers that belong to one sandbox see each other.
pub const NEIGHBOURS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 3, 0), 24);
/// Largest packet the device carries.
pub const MTU: usize = 1500;
