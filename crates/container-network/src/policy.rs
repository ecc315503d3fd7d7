//! Who may be reached: pure functions from a policy and facts to a verdict.
//!
//! Three layers, asked in this order:
//! 1. What no policy can open: loopback, this machine's own addresses, link-local and cloud metadata addresses,
//!    multicast, broadcast and reserved ranges, the sandboxes' own range, and every IPv6 form of those (mapped,
//!    compatible, NAT64, 6to4).
//! 2. The [`Policy`] itself.
//! 3. For destinations permitted by *name*, on port 443: the name in the TLS client hello must be listed too,
//!    because many names share an address.
//!
//! A name opens TCP only. QUIC would carry the name encrypted, and clients fall back to TCP when it is refused.

mod domain;
mod forbidden;
mod names;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;

pub use domain::DomainPattern;
pub(crate) use names::ResolvedNames;

use crate::error::{Error, Result};
use crate::machine::Machine;

/// What a sandbox may reach. Plain data; [`crate::Gateway::set_policy`] puts another in force at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// The outside: public addresses, and private ones that lie behind a router (a company's network as this
    /// machine reaches it) but not those of a network this machine itself is on. All names resolve.
    Open,
    /// These address ranges, and the addresses of these names as the gateway resolved them. Only these names
    /// resolve: a question for another would carry data out.
    AllowList {
        /// Ranges that may be reached over TCP and UDP. Private ranges count when they are named here.
        cidrs: Vec<IpNet>,
        /// Names that resolve and may be reached over TCP.
        domains: Vec<DomainPattern>,
    },
    /// Nothing, not even names.
    Closed,
}

/// What the two layers say about one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    /// Permitted by name alone, on a port where the client says which name it means: look before passing on.
    AllowIfNamed,
    Deny(Denial),
}

/// Why a destination is refused; for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("the network is closed")]
    Closed,
    #[error("never reachable from a sandbox: {0}")]
    Forbidden(&'static str),
    #[error("an address of a network this machine is on")]
    Neighbour,
    #[error("not on the allow-list")]
    NotListed,
}

/// How a flow is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A connection.
    Tcp,
    /// An exchange of datagrams.
    Udp,
}

/// The facts beside the policy that a verdict depends on.
pub(crate) struct Facts<'f> {
    pub(crate) machine: &'f Machine,
    pub(crate) names: &'f ResolvedNames,
    pub(crate) now: Instant,
}

/// Where client hellos are read.
const TLS_PORT: u16 = 443;

impl Policy {
    /// An allow-list from text: ranges like `203.0.113.0/24` (an address alone means just that one), names
    /// like `example.com`, `*.example.com` (any depth below, not `example.com` itself) or `*`.
    pub fn allow_list<C: AsRef<str>, D: AsRef<str>>(
        cidrs: impl IntoIterator<Item = C>,
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self> {
        let cidrs =
            cidrs.into_iter().map(|text| parse_cidr(text.as_ref())).collect::<Result<_>>()?;
        let domains =
            domains.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_>>()?;
        Ok(Self::AllowList { cidrs, domains })
    }

    /// Whether the gateway resolves `name`, and whether a client hello may carry it.
    pub(crate) fn names(&self, name: &str) -> bool {
        match self {
            Self::Open => true,
            Self::AllowList { domains, .. } => domains.iter().any(|pattern| pattern.matches(name)),
            Self::Closed => false,
        }
    }

    /// The verdict on a new flow, or on one that is already there when the policy changed.
    pub(crate) fn decide(
        &self,
        transport: Transport,
        to: SocketAddr,
        facts: &Facts<'_>,
    ) -> Verdict {
        let address = to.ip().to_canonical();
        if let Some(reason) = forbidden::reason(address, facts.machine) {
            return Verdict::Deny(Denial::Forbidden(reason));
        }
        match self {
            Self::Closed => Verdict::Deny(Denial::Closed),
            Self::Open if is_neighbour(address, facts.machine) => Verdict::Deny(Denial::Neighbour),
            Self::Open => Verdict::Allow,
            Self::AllowList { cidrs, .. } if cidrs.iter().any(|range| range.contains(&address)) => {
                Verdict::Allow
            }
            Self::AllowList { .. } => {
                let named = facts.names.of(address, facts.now).any(|name| self.names(name));
                match (named, transport, to.port()) {
                    (true, Transport::Tcp, TLS_PORT) => Verdict::AllowIfNamed,
                    (true, Transport::Tcp, _) => Verdict::Allow,
                    _ => Verdict::Deny(Denial::NotListed),
                }
            }
        }
    }
}

fn is_neighbour(address: IpAddr, machine: &Machine) -> bool {
    match address {
        IpAddr::V4(v4) => forbidden::is_private(v4) && !machine.routes_outside(v4),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn parse_cidr(text: &str) -> Result<IpNet> {
    let text = text.trim();
    let range = text.parse::<IpNet>().ok();
    range
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .ok_or_else(|| Error::Cidr { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::tests::machine;

    fn decide(policy: &Policy, transport: Transport, to: &str, names: &ResolvedNames) -> Verdict {
        let facts = Facts { machine: &machine(), names, now: Instant::now() };
        policy.decide(transport, to.parse().unwrap(), &facts)
    }

    fn tcp(policy: &Policy, to: &str) -> Verdict {
        decide(policy, Transport::Tcp, to, &ResolvedNames::default())
    }

    fn list(cidrs: &[&str], domains: &[&str]) -> Policy {
        Policy::allow_list(cidrs, domains).unwrap()
    }

    #[test]
    fn open_means_outside_and_never_this_machine_or_its_networks() {
        for outside in ["93.184.216.34:443", "10.255.255.53:80", "[2606:2800::1]:443"] {
            assert_eq!(tcp(&Policy::Open, outside), Verdict::Allow, "{outside}");
        }
        for near in ["192.168.7.40:22", "172.17.0.2:80", "[fd12::5]:1"] {
            assert_eq!(tcp(&Policy::Open, near), Verdict::Deny(Denial::Neighbour), "{near}");
        }
    }

    #[test]
    fn no_policy_opens_what_is_never_reachable() {
        let everything = list(&["0.0.0.0/0", "::/0"], &["*"]);
        for policy in [&Policy::Open, &everything] {
            for to in [
                "127.0.0.1:80",
                "127.8.9.1:80",
                "0.0.0.0:80",
                "192.168.7.21:22",
                "203.0.113.9:443",
                "169.254.169.254:80",
                "100.100.100.200:80",
                "10.0.2.2:80",
                "10.0.2.101:80",
                "224.0.0.1:5353",
                "255.255.255.255:67",
                "[::]:80",
                "[::1]:80",
                "[2001:db8::9]:80",
                "[fe80::1]:80",
                "[ff02::1]:80",
                "[fd00:ec2::254]:80",
                "[::ffff:127.0.0.1]:80",
                "[::127.0.0.1]:80",
                "[64:ff9b::a9fe:a9fe]:80",
                "[2002:7f00:1::]:80",
                "[2002:c0a8:715::1]:80",
            ] {
                assert!(
                    matches!(tcp(policy, to), Verdict::Deny(Denial::Forbidden(_))),
                    "{to}: {:?}",
                    tcp(policy, to)
                );
            }
        }
    }

    #[test]
    fn closed_is_closed() {
        assert_eq!(tcp(&Policy::Closed, "93.184.216.34:443"), Verdict::Deny(Denial::Closed));
        assert!(!Policy::Closed.names("example.com"));
    }

    #[test]
    fn ranges_open_both_transports_and_nothing_else() {
        let policy = list(&["198.51.100.0/24", "192.168.7.40"], &[]);
        for transport in [Transport::Tcp, Transport::Udp] {
            let names = ResolvedNames::default();
            assert_eq!(decide(&policy, transport, "198.51.100.7:53", &names), Verdict::Allow);
            assert_eq!(decide(&policy, transport, "192.168.7.40:53", &names), Verdict::Allow);
            assert_eq!(
                decide(&policy, transport, "198.51.101.7:53", &names),
                Verdict::Deny(Denial::NotListed)
            );
        }
        assert!(!policy.names("example.com"), "a list of ranges resolves no names");
    }

    #[test]
    fn a_resolved_name_opens_its_addresses_for_tcp_until_the_record_expires() {
        let policy = list(&[], &["*.example.com"]);
        let mut names = ResolvedNames::default();
        let now = Instant::now();
        let address = "198.51.100.7".parse().unwrap();
        names.learn("api.example.com", address, Duration::from_secs(300), now);
        assert_eq!(
            decide(&policy, Transport::Tcp, "198.51.100.7:443", &names),
            Verdict::AllowIfNamed
        );
        assert_eq!(decide(&policy, Transport::Tcp, "198.51.100.7:80", &names), Verdict::Allow);
        assert_eq!(
            decide(&policy, Transport::Udp, "198.51.100.7:443", &names),
            Verdict::Deny(Denial::NotListed)
        );
        assert_eq!(
            decide(&policy, Transport::Tcp, "198.51.100.8:443", &names),
            Verdict::Deny(Denial::NotListed)
        );
        let later =
            Facts { machine: &machine(), names: &names, now: now + Duration::from_secs(301) };
        let expired = policy.decide(Transport::Tcp, "198.51.100.7:443".parse().unwrap(), &later);
        assert_eq!(expired, Verdict::Deny(Denial::NotListed));
        let other = list(&[], &["example.org"]);
        assert_eq!(
            decide(&other, Transport::Tcp, "198.51.100.7:443", &names),
            Verdict::Deny(Denial::NotListed)
        );
    }

    #[test]
    fn a_listed_name_that_points_at_this_machine_opens_nothing() {
        let policy = list(&[], &["*"]);
        let mut names = ResolvedNames::default();
        for own in ["127.0.0.1", "192.168.7.21", "169.254.169.254"] {
            names.learn(
                "rebind.example.com",
                own.parse().unwrap(),
                Duration::from_secs(300),
                Instant::now(),
            );
            let verdict = decide(&policy, Transport::Tcp, &format!("{own}:443"), &names);
            assert!(matches!(verdict, Verdict::Deny(Denial::Forbidden(_))), "{own}");
        }
    }

    #[test]
    fn text_that_is_no_range_is_refused_with_the_form_to_use() {
        let error = Policy::allow_list(["10.0.0.0/33"], [""; 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`10.0.0.0/33` is not an address range; write it like `203.0.113.0/24`"
        );
    }
}
