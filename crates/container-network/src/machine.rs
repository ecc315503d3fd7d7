//! What is this machine: its own addresses, and which networks lie behind a router.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use crate::error::{Error, Result};

const LOCAL_V4: &str = "/proc/net/fib_trie";
const LOCAL_V6: &str = "/proc/net/if_inet6";
const ROUTES: &str = "/proc/net/route";

/// Addresses and IPv4 routes of the network namespace this process is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    own: HashSet<IpAddr>,
    routes: Vec<Route>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    to: Ipv4Net,
    through_router: bool,
}

impl Machine {
    /// Reads the kernel's tables. Costs some tens of microseconds.
    pub(crate) fn read() -> Result<Self> {
        let local = read(LOCAL_V4)?;
        // Absent where IPv6 is off.
        let local_v6 = std::fs::read_to_string(LOCAL_V6).unwrap_or_default();
        Ok(Self::from_tables(&local, &local_v6, &read(ROUTES)?))
    }

    /// The same from the tables' texts.
    pub(crate) fn from_tables(fib_trie: &str, if_inet6: &str, route: &str) -> Self {
        let own =
            own_v4(fib_trie).map(IpAddr::V4).chain(own_v6(if_inet6).map(IpAddr::V6)).collect();
        Self { own, routes: route.lines().skip(1).filter_map(parse_route).collect() }
    }

    /// Whether a packet to `address` ends on this machine.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// Whether `address` is reached through a router and not on a network that this machine is on (a container
    /// bridge, a home network). The longest prefix decides, as in the kernel.
    pub(crate) fn routes_outside(&self, address: Ipv4Addr) -> bool {
        let matching = self.routes.iter().filter(|route| route.to.contains(&address));
        matching.max_by_key(|route| route.to.prefix_len()).is_some_and(|route| route.through_router)
    }
}

fn read(path: &'static str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source: io::Error| Error::OwnAddresses { path, source })
}

/// An address is named on one line, and `/32 host LOCAL` below it says that it is the machine's.
fn own_v4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut named = None;
    table.lines().filter_map(move |line| match line.trim().strip_prefix("|-- ") {
        Some(address) => {
            named = address.parse().ok();
            None
        }
        None => named.filter(|_| line.contains("host LOCAL")),
    })
}

/// The first column is the address in 32 hexadecimal digits.
fn own_v6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    let addresses = table.lines().filter_map(|line| line.split_whitespace().next());
    addresses.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from)
}

/// Columns: interface, destination, gateway, flags, …, mask (the eighth); addresses in memory order.
fn parse_route(line: &str) -> Option<Route> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let address = |column: usize| {
        let digits = u32::from_str_radix(columns.get(column)?, 16).ok()?;
        Some(Ipv4Addr::from(digits.to_ne_bytes()))
    };
    let to = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
    Some(Route { to, through_router: !address(2)?.is_unspecified() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TRIE: &str = "\
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.168.7.0/24 2 0 2
           |-- 192.168.7.0
              /24 link UNICAST
           |-- 192.168.7.21
              /32 host LOCAL
        |-- 192.168.7.255
           /32 link BROADCAST
           |-- 203.0.113.9
              /32 host LOCAL
";
    const INET6: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000009 04 40 00 82     eth0
";

    /// On 192.168.7.0/24 with a default route and a container bridge.
    pub(crate) fn machine() -> Machine {
        let word = |a: u8, b: u8, c: u8, d: u8| format!("{:08X}", u32::from_ne_bytes([a, b, c, d]));
        let line = |device: &str, to: String, by: String, mask: String| {
            format!("{device}\t{to}\t{by}\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let none = || word(0, 0, 0, 0);
        let routes = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                .to_owned(),
            line("eth0", none(), word(192, 168, 7, 1), none()),
            line("eth0", word(192, 168, 7, 0), none(), word(255, 255, 255, 0)),
            line("docker0", word(172, 17, 0, 0), none(), word(255, 255, 0, 0)),
        ];
        Machine::from_tables(TRIE, INET6, &routes.concat())
    }

    #[test]
    fn own_addresses_are_those_the_kernel_calls_local() {
        let machine = machine();
        for own in ["127.0.0.1", "192.168.7.21", "203.0.113.9", "::1", "2001:db8::9"] {
            assert!(machine.owns(own.parse().unwrap()), "{own}");
        }
        for other in ["192.168.7.255", "192.168.7.0", "203.0.113.10", "2001:db8::8"] {
            assert!(!machine.owns(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_longest_prefix_tells_whether_a_router_is_between() {
        let machine = machine();
        let outside = |text: &str| machine.routes_outside(text.parse().unwrap());
        assert!(outside("10.255.255.53"));
        assert!(!outside("192.168.7.40"));
        assert!(!outside("172.17.0.2"));
        assert!(!Machine::default().routes_outside(Ipv4Addr::new(10, 1, 1, 1)));
    }

    #[test]
    fn this_machine_can_be_read_and_owns_loopback() {
        assert!(Machine::read().unwrap().owns(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn nonsense_tables_yield_nothing() {
        let machine = Machine::from_tables("|-- x\n host LOCAL\n", "zz\n\n", "head\na b c\n\n");
        assert_eq!(machine, Machine::default());
    }
}
