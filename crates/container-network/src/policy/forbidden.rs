//! Addresses that no policy opens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::machine::Machine;
use crate::plan;

/// Metadata services outside 169.254.0.0/16: Alibaba Cloud, Azure's wire server, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Why `address` is out of reach, if it is.
pub(super) fn reason(address: IpAddr, machine: &Machine) -> Option<&'static str> {
    if machine.owns(address) {
        return Some("this machine's own address");
    }
    match address {
        IpAddr::V4(v4) => reason_v4(v4),
        IpAddr::V6(v6) => reason_v6(v6).or_else(|| {
            let inner = IpAddr::V4(embedded(v6)?);
            reason(inner, machine).and(Some("an IPv6 form of an address that is out of reach"))
        }),
    }
}

/// Ranges that are not routed on the internet but on local networks: RFC 1918 and RFC 6598.
pub(super) fn is_private(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_private() || (first == 100 && (64..128).contains(&second))
}

fn reason_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("\"this network\""),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local, where metadata services are"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved or broadcast"),
        _ if METADATA_V4.contains(&address) => Some("a metadata service"),
        _ if plan::RANGE.contains(&address) => Some("the sandboxes' own range"),
        _ => None,
    }
}

fn reason_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfeff, ..] => Some("link-local or site-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        [0xfd00, 0x0ec2, ..] => Some("a metadata service"),
        _ => None,
    }
}

/// The IPv4 address that a translator would make of `address`: compatible, NAT64 and 6to4 forms.
/// The mapped form is taken apart before.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let joined = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(joined(high, low))
        }
        [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}
